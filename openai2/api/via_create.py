"""The way through `chat.completions.create`, for programs that watch or replace that method.

Invariants:
- `create` gets what `post` would send. What it returns, typed objects or what a tracing tool made of them,
  becomes the bytes that a server would have sent, so that all code behind it is the same.
- `create` hides whether a stream ended with `[DONE]`: here only a finish reason shows that it is complete.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any

import msgspec

from openai2.core.typeguards import is_mapping

_encode = msgspec.json.Encoder(enc_hook=str).encode


def is_patched(create: Any) -> bool:
    """Return whether *create*, as looked up on a client, is anything but the SDK's own method.

    Sees a replacement on the class and on the instance, wrappers that imitate a function's class (wrapt) and
    those that copy its attributes (functools.wraps).
    """
    return type(create) is not MethodType or not is_function_of(create.__func__, "openai")


def is_function_of(function: Any, package: str) -> bool:
    """Return whether *function*, and all that it wraps, is a plain function of *package*."""
    while type(function) is FunctionType and _package_of(function) == package:
        if "__wrapped__" not in vars(function):
            return True
        function = vars(function)["__wrapped__"]
    return False


def _package_of(function: FunctionType) -> str:
    return str(function.__globals__.get("__name__")).partition(".")[0]


def arguments(options: Mapping[str, Any], messages: Sequence[bytes]) -> dict[str, Any]:
    """Return the arguments of `create` for what `post` would send."""
    return {**options, "messages": [msgspec.json.decode(raw) for raw in messages]}


def _plain(answer: Any) -> Any:
    """Return the JSON value that *answer* stands for."""
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return dict(answer) if is_mapping(answer) else answer


def _event(chunk: Any) -> bytes:
    return b"data: " + _encode(_plain(chunk)) + b"\n\n"


def _is_whole(answer: Any) -> bool:
    """Return whether *answer* is not a stream: `create` returns other text than an event stream unchanged."""
    return isinstance(answer, str) or is_mapping(answer) or hasattr(answer, "model_dump")


def pieces(answer: Any, *, stream: bool) -> Iterator[bytes]:
    """Yield the bytes that a server would have sent."""
    if not stream or _is_whole(answer):
        yield answer.encode() if isinstance(answer, str) else _encode(_plain(answer))
        return
    for chunk in answer:
        yield _event(chunk)


async def apieces(answer: Any, *, stream: bool) -> AsyncIterator[bytes]:
    """Yield the same of an async stream."""
    if not stream or _is_whole(answer):
        yield answer.encode() if isinstance(answer, str) else _encode(_plain(answer))
        return
    async for chunk in answer:
        yield _event(chunk)
