"""A call of a model or a tool as it is recorded: readable, or only its digest. Pure."""

import hashlib
from dataclasses import replace
from typing import Any, Literal

import orjson

from app.progress import ModelCall, ToolCall
from workers.graph.codec import readable

RecordModels = Literal["full", "digest", "off"]


def kept_model_call(call: ModelCall, how: RecordModels) -> ModelCall:
    """`off` is for calls that nothing but a setting asked to record; of one that an agent records the digest stays."""
    return replace(
        call,
        request=_kept(call.request, how),
        response=_kept(call.response, how),
    )


def kept_tool_call(call: ToolCall, how: RecordModels) -> ToolCall:
    return replace(
        call,
        arguments=_kept(call.arguments, how),
        answer=_kept(call.answer, how),
    )


def _kept(value: Any, how: RecordModels) -> Any:
    if value is None:
        return None
    told = readable(value)
    return told if how == "full" else digest(told)


def digest(told: Any) -> dict[str, Any]:
    """Of its JSON with sorted keys and without spaces, before anything was redacted: whoever has it can compare."""
    content = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
