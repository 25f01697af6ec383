"""One exchange with the API: a request out, an answer's bytes in, over the clients of `openai`.

Rules:
- The request goes through the client's own `post`: its auth, headers, timeouts and exceptions, without the
  detour through typed objects that would be thrown away. Where a program asks for it, or has patched
  `create` as tracing tools do, it goes through `create` (`via_create`), and the same comes of it.
- What goes wrong becomes a `RequestError` that carries the `openai` exception the caller will see, with every
  trace of the key masked.
- The package `openai` is imported once a request is made.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from openai2.api import clients, deadline, via_create
from openai2.api import errors as api_errors
from openai2.api.options import Options, RequestOptions
from openai2.core.request_events import RequestError
from openai2.request.effects import Send

if TYPE_CHECKING:
    import httpx2
    import openai

_addresses: weakref.WeakKeyDictionary[openai.OpenAI | openai.AsyncOpenAI, str] = weakref.WeakKeyDictionary()


def _address(api: openai.OpenAI | openai.AsyncOpenAI) -> str:
    # Whole, not relative as `create` gives it: the client then need not put it together out of parsed
    # parts, and parse it again, which takes a tenth of the CPU of a request. Kept, since the client looks up
    # its own and writes it anew each time.
    known = _addresses.get(api)
    if known is None:
        known = _addresses[api] = f"{api.base_url}chat/completions"
    return known


def _post_options(api: openai.OpenAI | openai.AsyncOpenAI, options: Options) -> Any:
    # All are named: the SDK makes a deep copy of its default for each that is not.
    return {
        "security": {"bearer_auth": True},
        "headers": options.get("extra_headers") or {},
        "params": options.get("extra_query") or {},
        "timeout": options.get("timeout", api.timeout),
        "max_retries": 0,
    }


# -- one exchange


class _Exchange:
    """What both kinds of exchange know: their options, and what has to stay secret.

    *through_create*: call `create` even where nobody has patched it.
    """

    def __init__(self, options: RequestOptions, *, through_create: bool = False) -> None:
        self._options = options
        self._through_create = through_create
        self._response: httpx2.Response | None = None
        self._answer: Any = None  # what `create` gave
        self.key: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    @property
    def request(self) -> httpx2.Request | None:
        return self._response.request if self._response is not None else None

    def fault_of(self, error: BaseException) -> RequestError:
        """The fault that says what went wrong, with the exception for the caller."""
        secrets = self._options.secrets
        return api_errors.fault_of(error, [self.key, *secrets] if self.key else secrets, self.request)


class Exchange(_Exchange):
    """One try of one request over a blocking client."""

    _pieces: Iterator[bytes] | None = None

    def send(self, send: Send) -> None:
        """Send, and wait for the head of the answer. Raises RequestError."""
        import httpx2

        self.close()
        self.key = send.key
        api = clients.client(send.key, self._options.client)
        try:
            with deadline.until(send.until):
                if self._through_create or via_create.is_patched(blocking=True):
                    arguments = via_create.arguments(self._options.create, send.messages)
                    create: Any = api.chat.completions.create
                    answer: Any = create(**arguments)
                    self._answer = answer
                    self._pieces = via_create.pieces(answer, stream=self._options.stream)
                    return
                response: Any = api.post(
                    _address(api),
                    cast_to=httpx2.Response,
                    content=self._options.body(send.messages),
                    options=_post_options(api, self._options.create),
                    stream=self._options.stream,
                )
        except api_errors.expected() as error:
            fault = self.fault_of(error)
        else:
            self._response = response
            self._pieces = response.iter_bytes() if self._options.stream else iter([response.content])
            return
        raise fault

    def receive(self, until: float | None) -> bytes | None:
        """The next piece; None at the end. Raises RequestError."""
        assert self._pieces is not None
        try:
            if deadline.passed(until):
                raise api_errors.too_late(self.request)
            with deadline.until(until):
                return next(self._pieces, None)
        except api_errors.expected() as error:
            fault = self.fault_of(error)
        raise fault

    def close(self) -> None:
        """Let the connection go; one that was left in mid-answer is dropped."""
        held: Any = self._answer if self._response is None else self._response
        self._response = self._answer = self._pieces = None
        if (close := getattr(held, "close", None)) is not None:
            close()


class AsyncExchange(_Exchange):
    """One try of one request over an async client."""

    _pieces: AsyncIterator[bytes] | None = None
    _api: openai.AsyncOpenAI | None = None  # held meanwhile: with its end, its connections end

    async def send(self, send: Send) -> None:
        """Send, and wait for the head of the answer. Raises RequestError."""
        import httpx2

        await self.close()
        self.key = send.key
        api = self._api = await clients.async_client(send.key, self._options.client)
        try:
            with deadline.until(send.until):
                if self._through_create or via_create.is_patched(blocking=False):
                    arguments = via_create.arguments(self._options.create, send.messages)
                    create: Any = api.chat.completions.create
                    answer: Any = await create(**arguments)
                    self._answer = answer
                    self._pieces = via_create.apieces(answer, stream=self._options.stream)
                    return
                response: Any = await api.post(
                    _address(api),
                    cast_to=httpx2.Response,
                    content=self._options.body(send.messages),
                    options=_post_options(api, self._options.create),
                    stream=self._options.stream,
                )
        except api_errors.expected() as error:
            fault = self.fault_of(error)
        else:
            self._response = response
            self._pieces = response.aiter_bytes() if self._options.stream else _Whole(response.content)
            return
        raise fault

    async def receive(self, until: float | None) -> bytes | None:
        """The next piece; None at the end. Raises RequestError."""
        assert self._pieces is not None
        try:
            if deadline.passed(until):
                raise api_errors.too_late(self.request)
            with deadline.until(until):
                return await anext(self._pieces, None)
        except api_errors.expected() as error:
            fault = self.fault_of(error)
        raise fault

    async def close(self) -> None:
        """Let the connection go; one that was left in mid-answer is dropped."""
        response: httpx2.Response | None = self._response
        answer: Any = self._answer
        self._response = self._answer = self._pieces = self._api = None
        if response is not None:
            await response.aclose()
        elif (close := getattr(answer, "close", None)) is not None:
            await close()


class _Whole(AsyncIterator[bytes]):
    """An answer in one piece. As a generator, which nobody asks twice, the loop would have to close it, in a
    task of its own that a write to the loop's own socket wakes."""

    def __init__(self, body: bytes) -> None:
        self._left = [body]

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def load() -> None:
    """Import the `openai` package now, which takes about a second, rather than at the first request."""
    import_module("openai")
