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
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from openai2.api import clients, deadline, via_create
from openai2.api import errors as api_errors
from openai2.core.request_events import RequestError
from openai2.core.typeguards import is_mapping
from openai2.errors import BadInput
from openai2.request.effects import Send

if TYPE_CHECKING:
    import httpx2
    import openai

#: Options of openai.OpenAI; whatever else a Chat is given belongs to chat.completions.create.
CLIENT_OPTIONS = frozenset(
    (
        *("base_url", "organization", "project", "webhook_secret", "websocket_base_url", "timeout"),
        *("max_retries", "default_headers", "default_query", "http_client", "admin_api_key"),
        *("workload_identity", "provider", "data_residency", "_strict_response_validation"),
        "_enforce_credentials",
    )
)
#: Options of `create` that say how a request travels, not what is asked; they are not put on record.
TRAVEL_OPTIONS = ("extra_headers", "extra_query", "extra_body", "timeout")
#: Options of `create` that most use: to know that they are, the package, which takes a second to import, is
#: not asked. A list that lacks some costs that second, nothing else.
_EVERYDAY = frozenset(
    (
        *("temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stop", "seed", "user"),
        *("presence_penalty", "frequency_penalty", "response_format", "reasoning_effort", "verbosity"),
        *("tools", "tool_choice", "parallel_tool_calls", "logprobs", "top_logprobs", "logit_bias"),
        *("model", "stream_options", *TRAVEL_OPTIONS),
    )
)
#: Options of `create` that a dialogue gives itself, and how one says them instead.
_OUR_OWN = {
    "stream": "whether to stream is said by the method: request or stream_request",
    "messages": "messages are added by add_dialogs, or handed to a request of a Chat",
}

Options = dict[str, Any]


def split(options: Mapping[str, Any], *, call: bool = False) -> tuple[Options, Options]:
    """(options of the client, options of `create`). The original's `api_base` means `base_url`.

    A timeout is both: for a *call* it is the request's, else the client's.
    """
    client: Options = {}
    create: Options = {}
    for name, value in options.items():
        if name == "api_base":
            client["base_url"] = value
        elif name in CLIENT_OPTIONS and not (call and name == "timeout"):
            client[name] = value
        else:
            create[name] = value
    return client, create


def given(options: Mapping[str, Any]) -> Options:
    """The options less those that are the SDK's own sign for "not given"."""
    return {
        name: value for name, value in options.items() if type(value).__name__ not in ("NotGiven", "Omit")
    }


@cache
def _create_names() -> frozenset[str]:
    import inspect

    from openai.resources.chat.completions import Completions

    return frozenset(inspect.signature(Completions.create).parameters) - {"self"}


def check_create_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that `chat.completions.create` does not know, as it would itself, or
    that is not the caller's to give."""
    for name in options:
        if name in _OUR_OWN:
            raise TypeError(_OUR_OWN[name])
        if name not in _EVERYDAY and name not in _create_names():
            raise TypeError(
                f"{name!r} is no option of chat.completions.create; "
                f"what a server knows beyond them goes into extra_body={{{name!r}: …}}"
            )


def on_record(options: Mapping[str, Any]) -> Options:
    """The options as an event keeps them: without those that could carry a secret."""
    kept = {name: value for name, value in options.items() if name not in TRAVEL_OPTIONS}
    extra = options.get("extra_body")
    if is_mapping(extra):
        kept["extra_body"] = dict(extra)
    plain: Options = msgspec.json.decode(_encode(kept))
    return plain


def _hook(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    if is_mapping(value):
        return dict(value)
    if hasattr(value, "__iter__"):
        return [*value]
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_hook)


def _encode(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise BadInput("an option holds a lone surrogate, which no UTF-8 text can hold") from None


def body(send: Send, options: Mapping[str, Any]) -> bytes:
    """The request's JSON: the messages as they stand in the log, and the options."""
    rest: Options = {name: value for name, value in options.items() if name not in TRAVEL_OPTIONS}
    if send.ask.model is not None:
        rest["model"] = send.ask.model
    if send.ask.stream:
        rest["stream"] = True
        rest.setdefault("stream_options", {"include_usage": True})
        if rest["stream_options"] is None:
            del rest["stream_options"]
    extra: Mapping[str, Any] = options.get("extra_body") or {}
    rest.update(extra)
    if "messages" in extra:
        return _encode(rest)
    return b'{"messages":[' + b",".join(send.messages) + (b"]," if rest else b"]") + _encode(rest)[1:]


_addresses: weakref.WeakKeyDictionary[openai.OpenAI | openai.AsyncOpenAI, str] = weakref.WeakKeyDictionary()


def _address(api: openai.OpenAI | openai.AsyncOpenAI) -> str:
    # Whole, not relative as `create` gives it: the client then need not put it together out of parsed
    # parts, and parse it again, which takes a tenth of the CPU of a request. Kept, since the client looks up
    # its own and writes it anew each time.
    known = _addresses.get(api)
    if known is None:
        known = _addresses[api] = f"{api.base_url}chat/completions"
    return known


def _post_options(api: openai.OpenAI | openai.AsyncOpenAI, options: Mapping[str, Any]) -> Any:
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

    def __init__(
        self, client_options: Options, create_options: Options, *, through_create: bool = False
    ) -> None:
        self._client_options = client_options
        self._options = create_options
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
        secrets = api_errors.secrets_in(self._client_options, self._options)
        return api_errors.fault_of(error, [self.key, *secrets] if self.key else secrets, self.request)


class Exchange(_Exchange):
    """One try of one request over a blocking client."""

    _pieces: Iterator[bytes] | None = None

    def send(self, send: Send) -> None:
        """Send, and wait for the head of the answer. Raises RequestError."""
        import httpx2

        self.close()
        self.key = send.key
        api = clients.client(send.key, self._client_options)
        try:
            with deadline.until(send.until):
                if self._through_create or via_create.is_patched(blocking=True):
                    arguments = via_create.arguments(send, self._options)
                    create: Any = api.chat.completions.create
                    answer: Any = create(**arguments)
                    self._answer = answer
                    self._pieces = via_create.pieces(answer, stream=send.ask.stream)
                    return
                response: Any = api.post(
                    _address(api),
                    cast_to=httpx2.Response,
                    content=body(send, self._options),
                    options=_post_options(api, self._options),
                    stream=send.ask.stream,
                )
        except api_errors.expected() as error:
            fault = self.fault_of(error)
        else:
            self._response = response
            self._pieces = response.iter_bytes() if send.ask.stream else iter([response.content])
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
        api = self._api = await clients.async_client(send.key, self._client_options)
        try:
            with deadline.until(send.until):
                if self._through_create or via_create.is_patched(blocking=False):
                    arguments = via_create.arguments(send, self._options)
                    create: Any = api.chat.completions.create
                    answer: Any = await create(**arguments)
                    self._answer = answer
                    self._pieces = via_create.apieces(answer, stream=send.ask.stream)
                    return
                response: Any = await api.post(
                    _address(api),
                    cast_to=httpx2.Response,
                    content=body(send, self._options),
                    options=_post_options(api, self._options),
                    stream=send.ask.stream,
                )
        except api_errors.expected() as error:
            fault = self.fault_of(error)
        else:
            self._response = response
            self._pieces = response.aiter_bytes() if send.ask.stream else _Whole(response.content)
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
