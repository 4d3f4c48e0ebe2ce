"""What came of a step, and how the log holds it.

Nearly always it is what the node returned, as the codec writes it. Where more belongs to it, the value in the log
is `{"$step": {"returned": …, …}}`.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

from workers.graph.codec import Codec

TAG = "$step"


@dataclass(frozen=True, slots=True)
class StepResult:
    returned: Any
    """As the node returned it: None, a dict, a `Command`, a list of them …"""
    sent: tuple[tuple[str, Any], ...] = ()
    """What it wrote to channels while it ran (`push_message`), in order."""
    kept: bytes = b""
    """The state of its subgraphs with `checkpointer=True`, as a saver writes it."""
    answers: int = 0
    """How many questions of it were answered. LangGraph begins its run anew with each: it forgets untracked values,
    and counts steps from there.
    """


def encode(codec: Codec, result: StepResult) -> Any:
    """Raises UnstorableValue for a type that is not allowed."""
    returned = codec.encode(result.returned)
    if not (result.sent or result.kept or result.answers) and not (isinstance(returned, dict) and TAG in returned):
        return returned
    step: dict[str, Any] = {"returned": returned}
    if result.sent:
        step["sent"] = [[channel, codec.encode(value)] for channel, value in result.sent]
    if result.kept:
        step["kept"] = b64encode(result.kept).decode()
    if result.answers:
        step["answers"] = result.answers
    return {TAG: step}


def decode(codec: Codec, value: Any) -> StepResult:
    """Takes what `encode` gave, after any number of trips through JSON."""
    if not (isinstance(value, dict) and value.keys() == {TAG}):
        return StepResult(codec.decode(value))
    step = value[TAG]
    return StepResult(
        codec.decode(step["returned"]),
        tuple((channel, codec.decode(item)) for channel, item in step.get("sent", ())),
        b64decode(step.get("kept", "")),
        step.get("answers", 0),
    )
