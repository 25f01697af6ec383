"""The way through `chat.completions.create`, for programs that watch or replace that method.

Rules: `create` gets what `post` would send, and what it gives back, typed objects or what a tracing tool
made of them, becomes the bytes that a server would have sent; so everything behind it is the same. One
thing `create` hides: whether a stream said `[DONE]`. Here only a finish reason tells that it is whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from openai2.api import patches
from openai2.core.typeguards import is_mapping

_encode = msgspec.json.Encoder(enc_hook=str).encode


def is_patched(*, blocking: bool) -> bool:
    """Whether somebody has put a function of their own in the place of the SDK's `create`."""
    from openai.resources.chat.completions import AsyncCompletions, Completions

    return patches.is_patched(Completions.create if blocking else AsyncCompletions.create, "openai")


def arguments(options: Mapping[str, Any], messages: Sequence[bytes]) -> dict[str, Any]:
    """Return the arguments of `create` that say what `post` would send."""
    return {**options, "messages": [msgspec.json.decode(raw) for raw in messages]}


def _plain(answer: Any) -> Any:
    """What the server said, of an object that stands for it."""
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return dict(answer) if is_mapping(answer) else answer


def _event(chunk: Any) -> bytes:
    return b"data: " + _encode(_plain(chunk)) + b"\n\n"


def _is_whole(answer: Any) -> bool:
    """Whether it is no stream: `create` gives the text of what is no event stream as it stands."""
    return isinstance(answer, str) or is_mapping(answer) or hasattr(answer, "model_dump")


def pieces(answer: Any, *, stream: bool) -> Iterator[bytes]:
    """The bytes that a server would have sent."""
    if not stream or _is_whole(answer):
        yield answer.encode() if isinstance(answer, str) else _encode(_plain(answer))
        return
    for chunk in answer:
        yield _event(chunk)


async def apieces(answer: Any, *, stream: bool) -> AsyncIterator[bytes]:
    """`pieces` of an async stream."""
    if not stream or _is_whole(answer):
        yield answer.encode() if isinstance(answer, str) else _encode(_plain(answer))
        return
    async for chunk in answer:
        yield _event(chunk)
