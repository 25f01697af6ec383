"""The only module that talks to the `openai` package, and only once a request is made.

Rules:
- One HTTP client for each key and set of options, kept and shared by everybody in the process.
- The request goes through the client's own `post`: its auth, headers, timeouts, retries and exceptions,
  without the detour through typed objects that would be thrown away (docs/design.md tells why).
- What goes wrong becomes a `Fault` that carries the `openai` exception the caller will see, with every
  trace of the key masked.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from openai2.errors import BadInput, NoKey
from openai2.flow import Send
from openai2.keys import mask
from openai2.shapes import is_list, is_mapping, is_sequence
from openai2.turn import Fault

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

_ENVIRONMENT = ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY")
#: Clients kept; the one that was used longest ago goes first.
MOST_CLIENTS = 256

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
    """Raise TypeError for an option that `chat.completions.create` does not know, as it would itself."""
    for name in options:
        if name not in _create_names():
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
    return b'{"messages":[' + b",".join(send.messages) + b"]," + _encode(rest)[1:]


def _post_options(options: Mapping[str, Any]) -> Any:
    chosen: dict[str, Any] = {"security": {"bearer_auth": True}}
    if options.get("extra_headers") is not None:
        chosen["headers"] = options["extra_headers"]
    if options.get("extra_query") is not None:
        chosen["params"] = options["extra_query"]
    if "timeout" in options:
        chosen["timeout"] = options["timeout"]
    return chosen


# -- clients


def _frozen(value: Any) -> Any:
    if is_mapping(value):
        return tuple(sorted((name, _frozen(inner)) for name, inner in value.items()))
    if is_sequence(value):
        return tuple(map(_frozen, value))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _surroundings() -> tuple[str | None, ...]:
    """What the SDK takes from the environment when a client is made."""
    return tuple(map(os.environ.get, _ENVIRONMENT))


class _Clients(OrderedDict[Any, Any]):
    """Clients by key and options, the latest used last."""

    def __repr__(self) -> str:
        return f"<{len(self)} clients>"


_sync_clients = _Clients()
_async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def client(key: str | None, options: Mapping[str, Any]) -> openai.OpenAI:
    """The shared client for that key and these options."""
    import openai

    name = (key, _frozen(options), _surroundings())
    with _lock:
        known = _sync_clients.get(name)
        if known is None or known.is_closed():
            known = _sync_clients[name] = _make(openai.OpenAI, key, options)
            while len(_sync_clients) > MOST_CLIENTS:
                _sync_clients.popitem(last=False)
        _sync_clients.move_to_end(name)
    assert isinstance(known, openai.OpenAI)
    return known


async def async_client(key: str | None, options: Mapping[str, Any]) -> openai.AsyncOpenAI:
    """The shared client of the running event loop for that key and these options."""
    import openai

    loop = asyncio.get_running_loop()
    name = (key, _frozen(options), _surroundings())
    with _lock:
        clients = _async_clients.get(loop)
        fresh = clients is None
        if clients is None:
            clients = _async_clients[loop] = _Clients()
        known = clients.get(name)
        if known is None or known.is_closed():
            known = clients[name] = _make(openai.AsyncOpenAI, key, options)
            while len(clients) > MOST_CLIENTS:
                clients.popitem(last=False)
        clients.move_to_end(name)
    if fresh:
        await anext(_until_the_loop_ends(clients))
    assert isinstance(known, openai.AsyncOpenAI)
    return known


_guards: set[AsyncGenerator[None, None]] = set()


def _until_the_loop_ends(clients: _Clients) -> AsyncGenerator[None, None]:
    # asyncio.run() closes the async generators that are still open before it closes the loop: the last
    # moment at which connections of that loop can be closed in order.
    async def guard() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _guards.discard(held)
            for known in list(clients.values()):
                await known.close()

    held = guard()
    _guards.add(held)
    return held


def _make(kind: Any, key: str | None, options: Mapping[str, Any]) -> Any:
    import openai

    try:
        return kind(api_key=key, **options)
    except openai.OpenAIError as error:
        if key is None:
            raise NoKey(
                "no API key: pass api_key=…, or set OPENAI_API_KEY; openai2.offline answers without one"
            ) from error
        raise


# -- what goes wrong


def _masked(value: Any, key: str | None) -> Any:
    if not key or len(key) < 4:
        return value
    if isinstance(value, str):
        return value.replace(key, mask(key)) if key in value else value
    if isinstance(value, bytes):
        return value.replace(key.encode(), mask(key).encode())
    if is_mapping(value):
        return {_masked(name, key): _masked(inner, key) for name, inner in value.items()}
    if is_list(value):
        return [_masked(inner, key) for inner in value]
    return value


def _clean_request(request: httpx2.Request) -> httpx2.Request:
    """A request like it, without what it authenticates with."""
    import httpx2

    secret = ("authorization", "api-key", "x-api-key", "cookie")
    headers = [(name, value) for name, value in request.headers.multi_items() if name not in secret]
    return httpx2.Request(request.method, request.url, headers=headers)


def _clean(error: BaseException, key: str | None) -> None:
    """Take every trace of the key out of an exception, its request, response, body and causes."""
    import httpx2
    import openai

    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        current.args = tuple(_masked(arg, key) for arg in current.args)
        if isinstance(current, openai.APIError):
            current.message = _masked(current.message, key)
            current.body = _masked(current.body, key)
            current.request = _clean_request(current.request)
        if isinstance(current, openai.APIStatusError):
            current.response = _clean_response(current.response, key)
        elif isinstance(current, (httpx2.RequestError, httpx2.HTTPStatusError)):
            try:
                current.request = _clean_request(current.request)
            except RuntimeError:  # it was raised without one
                pass
        current = current.__cause__ or current.__context__


def _clean_response(response: httpx2.Response, key: str | None) -> httpx2.Response:
    import httpx2

    dropped = ("content-encoding", "transfer-encoding", "content-length", "set-cookie")
    headers = {name: _masked(value, key) for name, value in response.headers.items() if name not in dropped}
    return httpx2.Response(
        response.status_code,
        headers=headers,
        content=_masked(response.content, key),
        request=_clean_request(response.request),
    )


def fault_of(error: BaseException, key: str | None, request: httpx2.Request | None = None) -> Fault:
    """The fault that says what the exception says, with the `openai` exception for the caller."""
    import httpx2
    import openai

    if isinstance(error, Fault):
        return _dressed(error, key, request)
    if not isinstance(error, openai.OpenAIError):
        if request is None:
            request = httpx2.Request("POST", "http://unknown.invalid/")
        cause = error
        if isinstance(error, httpx2.TimeoutException):
            error = openai.APITimeoutError(request)
        else:
            error = openai.APIConnectionError(message=f"Connection error: {_told(cause)}", request=request)
        error.__cause__ = cause
    _clean(error, key)
    if isinstance(error, openai.APIStatusError):
        return Fault(
            type(error).__name__,
            error.message,
            status=error.status_code,
            code=error.code,
            type=error.type,
            headers=dict(error.response.headers),
            error=error,
        )
    code = getattr(error, "code", None)
    return Fault(type(error).__name__, str(error), code=code, error=error)


def _told(cause: BaseException) -> str:
    return str(cause) or type(cause).__name__


def _dressed(fault: Fault, key: str | None, request: httpx2.Request | None) -> Fault:
    """The fault that the pure parts found, with the exception that the caller will see."""
    import httpx2
    import openai

    if fault.error is None:
        request = request or httpx2.Request("POST", "http://unknown.invalid/")
        error: openai.APIError
        if fault.kind == "APIError":
            error = openai.APIError(fault.message, request, body=fault.body)
        elif fault.kind == "APITimeoutError":
            error = openai.APITimeoutError(request)
        else:
            error = openai.APIConnectionError(message=fault.message, request=request)
        error.__cause__ = fault.__cause__
        _clean(error, key)
        fault.error = error
        fault.message = _masked(fault.message, key)
    return fault


# -- one exchange


def _raw(response: object) -> httpx2.Response:
    """What `post` gives where it was asked for the response itself; its types know the stream only."""
    import httpx2

    assert isinstance(response, httpx2.Response)
    return response


class Exchange:
    """One try of one request over a blocking client."""

    def __init__(self, client_options: Options, create_options: Options) -> None:
        self._client_options = client_options
        self._options = create_options
        self._response: httpx2.Response | None = None
        self._pieces: Iterator[bytes] | None = None
        self.key: str | None = None

    @property
    def request(self) -> httpx2.Request | None:
        return self._response.request if self._response is not None else None

    def send(self, send: Send) -> None:
        """Send, and wait for the head of the answer. Raises Fault."""
        import httpx2
        import openai

        self.close()
        self.key = send.key
        try:
            response = client(send.key, self._client_options).post(
                "/chat/completions",
                cast_to=httpx2.Response,
                content=body(send, self._options),
                options=_post_options(self._options),
                stream=send.ask.stream,
                stream_cls=openai.Stream[Any],
            )
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            raise fault_of(error, send.key) from None
        self._response = response = _raw(response)
        self._pieces = response.iter_bytes() if send.ask.stream else iter([response.content])

    def receive(self) -> bytes | None:
        """The next piece; None at the end. Raises Fault."""
        import httpx2

        assert self._pieces is not None
        try:
            return next(self._pieces, None)
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise fault_of(error, self.key, self.request) from None

    def close(self) -> None:
        """Let the connection go; one that was left in mid-answer is dropped."""
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            response.close()


class AsyncExchange:
    """One try of one request over an async client."""

    def __init__(self, client_options: Options, create_options: Options) -> None:
        self._client_options = client_options
        self._options = create_options
        self._response: httpx2.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self.key: str | None = None

    @property
    def request(self) -> httpx2.Request | None:
        return self._response.request if self._response is not None else None

    async def send(self, send: Send) -> None:
        """Send, and wait for the head of the answer. Raises Fault."""
        import httpx2
        import openai

        await self.close()
        self.key = send.key
        shared = await async_client(send.key, self._client_options)
        try:
            response = await shared.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                content=body(send, self._options),
                options=_post_options(self._options),
                stream=send.ask.stream,
                stream_cls=openai.AsyncStream[Any],
            )
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:
            raise fault_of(error, send.key) from None
        self._response = response = _raw(response)
        self._pieces = response.aiter_bytes() if send.ask.stream else None

    async def receive(self) -> bytes | None:
        """The next piece; None at the end. Raises Fault."""
        import httpx2

        assert self._response is not None
        if self._pieces is None:
            return self._response.content
        try:
            return await anext(self._pieces, None)
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise fault_of(error, self.key, self.request) from None

    async def close(self) -> None:
        """Let the connection go; one that was left in mid-answer is dropped."""
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            await response.aclose()


def load() -> None:
    """Import the `openai` package now, which takes about a second, rather than at the first request."""
    from importlib import import_module

    import_module("openai")
