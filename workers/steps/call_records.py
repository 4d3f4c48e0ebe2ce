"""A call of a model or a tool as it is recorded: readable, without secrets, or only its digest. Pure."""

import hashlib
from dataclasses import replace
from typing import Any, Literal

import orjson

from app.progress import ModelCall, ToolCall
from app.redaction import Redactor
from workers.graph.codec import readable

RecordModels = Literal["full", "digest", "off"]


def kept_model_call(call: ModelCall, redactor: Redactor, how: RecordModels) -> ModelCall:
    """`off` is for calls that nothing but a setting asked to record; of one that an agent records the digest stays."""
    return replace(
        call,
        request=_kept(call.request, redactor, how),
        response=_kept(call.response, redactor, how),
        error=redactor.value(call.error),
        trace=redactor.value(dict(call.trace)),
    )


def kept_tool_call(call: ToolCall, redactor: Redactor, how: RecordModels) -> ToolCall:
    return replace(
        call,
        arguments=_kept(call.arguments, redactor, how),
        answer=_kept(call.answer, redactor, how),
        error=redactor.value(call.error),
    )


def _kept(value: Any, redactor: Redactor, how: RecordModels) -> Any:
    if value is None:
        return None
    told = readable(value)
    return redactor.value(told) if how == "full" else digest(told)


def digest(told: Any) -> dict[str, Any]:
    """Of its JSON with sorted keys and without spaces, before anything was redacted: whoever has it can compare."""
    content = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
