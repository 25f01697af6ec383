"""Map exceptions of an exchange to `RequestError` with the `openai` exception for the caller.

Invariants:
- An exception of the SDK stays what it is. One that the SDK lets through from below (the HTTP libraries,
  broken JSON, bad UTF-8) becomes APITimeoutError or APIConnectionError, with its cause.
- Over aiohttp, causes are the `httpx2` exceptions that the other transports raise. aiohttp's own hold the
  request's headers, and the SDK reports a connection that was cut as a timeout.
- The message says why: a failed connection its reason, a status what the server says, in whatever shape it
  says it.
- No exception that leaves here holds a key: not in its text, arguments, body, request, response or causes,
  nor in the frames of its traceback, which reach into the SDK.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from functools import cache
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any

from openai2.api import addresses
from openai2.core.request_events import RequestError
from openai2.core.typeguards import is_mapping
from openai2.errors import Openai2Error
from openai2.keys import masking
from openai2.request.server_words import shorten, words_of, words_of_bytes

if TYPE_CHECKING:
    import httpx2
    import openai

#: Headers that authenticate a request.
_SECRET = frozenset(("authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"))
_SECRET_WORDS = ("key", "token", "secret", "auth")
#: Headers of a response that are wrong once its body was read, or are secrets.
_DROPPED = frozenset(("content-encoding", "transfer-encoding", "content-length", "set-cookie"))


def _is_secret(name: str) -> bool:
    return name in _SECRET or any(word in name for word in _SECRET_WORDS)


def secrets_of(headers: object) -> list[str]:
    """Return the secrets in a mapping of headers: the values of those that authenticate a request."""
    found: list[str] = []
    if is_mapping(headers):
        for name, text in headers.items():
            if _is_secret(str(name).lower()) and isinstance(text, str):
                found.append(masking.Hidden(text.rpartition(" ")[2]))
    return [secret for secret in found if masking.is_secret(secret)]


def secrets_in(client: Mapping[str, Any], create: Mapping[str, Any]) -> list[str]:
    """Return the secrets, besides the API key, that are sent with these options."""
    found = secrets_of(client.get("default_headers", {})) + secrets_of(create.get("extra_headers", {}))
    for name in ("admin_api_key", "webhook_secret"):
        if isinstance(secret := client.get(name), str) and secret:
            found.append(masking.Hidden(secret))
    if (address := addresses.address_of(client)) is not None and address.basic is not None:
        found += [masking.Hidden(address.basic.removeprefix("Basic ")), address.password or masking.Hidden()]
    return found


@cache
def _from_below() -> tuple[type[Exception], ...]:
    import zlib

    import anyio
    import httpcore2
    import httpx2

    return (
        *(httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, httpx2.CookieConflict),
        *(httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError),
        *(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError),
        *(OSError, EOFError, UnicodeError, JSONDecodeError, zlib.error, RecursionError),
    )


def is_mistake(error: Exception) -> bool:
    """Return whether an exception of sending is a mistake in a program, such as an option of a wrong type.

    Every other exception, of whatever library, is a failure of the request.
    """
    if isinstance(error, Openai2Error):
        return True
    return type(error).__module__ == "builtins" and not isinstance(error, _from_below())


def _is_timeout(error: BaseException) -> bool:
    import httpcore2
    import httpx2

    return isinstance(error, (httpx2.TimeoutException, httpcore2.TimeoutException, TimeoutError)) or (
        "Timeout" in type(error).__name__ and type(error).__module__.startswith("httpx")
    )


def _from_aiohttp(error: BaseException) -> httpx2.TransportError | None:
    """Return the httpx2 exception that means the same as the aiohttp exception in *error*'s chain, if any."""
    if (aiohttp := sys.modules.get("aiohttp")) is None:
        return None
    source: BaseException | None = error
    while source is not None and not isinstance(source, aiohttp.ClientError):
        source = source.__cause__
    if source is None:
        return None
    import httpx2

    meanings: tuple[tuple[Any, type[httpx2.TransportError]], ...] = (  # the first that fits
        (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
        (aiohttp.ServerTimeoutError, httpx2.ReadTimeout),
        ((aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError), httpx2.ProxyError),
        (aiohttp.ClientConnectorError, httpx2.ConnectError),
        (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
        (
            (aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError, aiohttp.ClientPayloadError),
            httpx2.RemoteProtocolError,
        ),
        (aiohttp.ClientError, httpx2.ReadError),
    )
    kind = next(meaning for raised, meaning in meanings if isinstance(source, raised))
    below = getattr(source, "os_error", None) or (source if isinstance(source, OSError) else None)
    text = str(below or source) or type(source).__name__
    if kind is httpx2.RemoteProtocolError:  # its text quotes what the server sent
        text = f"the response was cut, or is not valid HTTP ({type(source).__name__})"
    fault = kind(text)
    if not isinstance(below, aiohttp.ClientError):
        fault.__cause__ = below
    return fault


def fault_of(
    error: BaseException, keys: Collection[str], request: httpx2.Request | None = None
) -> RequestError:
    """Return the failure that *error* means, with the `openai` exception for the caller."""
    import openai

    if isinstance(error, RequestError):
        return _with_error(error, keys, request)
    cause = _from_aiohttp(error) or error
    if cause is not error or not isinstance(error, openai.OpenAIError):
        if isinstance(error, openai.APIError):
            request = error.request
        if _is_timeout(cause):
            error = openai.APITimeoutError(_clean_request(request, keys))
        else:
            error = openai.APIConnectionError(request=_clean_request(request, keys))
        error.__cause__ = cause
    if isinstance(error, openai.APIError):
        _say_why(error)
    clean(error, keys)
    if isinstance(error, openai.APIStatusError):
        return RequestError(
            type(error).__name__,
            error.message,
            status=error.status_code,
            code=None if error.code is None else str(error.code),
            type=error.type if isinstance(error.type, str) else None,
            headers=dict(error.response.headers),
            error=error,
        )
    code = getattr(error, "code", None)
    return RequestError(
        type(error).__name__, str(error), code=None if code is None else str(code), error=error
    )


def _say_why(error: openai.APIError) -> None:
    """Put the reason into the message, when the SDK's own message lacks it."""
    import openai

    message: str | None = None
    if isinstance(error, openai.APIStatusError):
        message = _status_message(error)
    elif type(error) is openai.APIConnectionError:
        if error.__cause__ is not None and error.message == "Connection error.":
            message = f"Connection error: {_reason(error.__cause__)}"
    elif type(error) is openai.APIError:  # an error inside a stream
        words = words_of(error.body)
        message, error.code, error.type = words.text, error.code or words.code, error.type or words.type
    if message:
        error.message = message
        error.args = (message,)


def _status_message(error: openai.APIStatusError) -> str | None:
    if error.response.has_redirect_location:
        return None  # `redirects` says why it was not followed
    try:
        words = words_of_bytes(error.response.content)
    except Exception:  # noqa: BLE001 - it was cut while it was read, or was not read
        words = words_of(error.body)
    error.code, error.type = error.code or words.code, error.type or words.type
    inner = error.body.get("error", error.body) if is_mapping(error.body) else None
    known = inner.get("message") if is_mapping(inner) else None
    message: str | None = None
    if words.text is None:
        reason = error.response.reason_phrase or "no reason"
        message = f"Error code: {error.status_code} - {reason}, without a message from the server"
    elif words.text != known:
        message = f"Error code: {error.status_code} - {words.text}"
    if error.status_code in (400, 404, 415, 422, 500, 501) and "stream_options" in (words.text or ""):
        message = f"{message or error.message} (pass stream_options=None: this server does not know it)"
    return message


def _reason(error: BaseException) -> str:
    """Return why a connection failed: the innermost reason of the system, or the exception's own text."""
    found = error
    current: BaseException | None = error
    for _ in range(10):
        if current is None:
            break
        if isinstance(current, (OSError, JSONDecodeError)):
            found = current
        inner = getattr(current, "exceptions", None)
        current = inner[0] if inner else current.__cause__ or current.__context__
    if isinstance(found, JSONDecodeError):
        return f"the server sent what is not JSON: {words_of(found.doc).text or found.msg}"
    if verify := getattr(found, "verify_message", None):
        return f"certificate verify failed: {verify}"
    text = str(found)
    if isinstance(found, OSError) and found.errno:
        is_systems = found.errno > 0 and not hasattr(found, "library")  # ssl and getaddrinfo count otherwise
        text = os.strerror(found.errno) if is_systems else found.strerror or text
    return shorten(text) or type(found).__name__


def _with_error(fault: RequestError, keys: Collection[str], request: httpx2.Request | None) -> RequestError:
    """Return a failure that the pure code found, with the exception for the caller."""
    import openai

    if fault.error is None:
        error: openai.APIError
        if fault.kind == "APIError":
            body = fault.body
            error = openai.APIError(fault.message, _clean_request(request, keys), body=body)
        else:
            error = openai.APIConnectionError(message=fault.message, request=_clean_request(request, keys))
        error.__cause__ = fault.__cause__
        clean(error, keys)
        fault.error = error
    fault.message = masking.text(fault.message, keys)
    return fault


def clean(error: BaseException, keys: Collection[str]) -> None:
    """Remove the keys from an exception: its text, request, response, body, causes and frames."""
    import httpx2
    import openai

    keys = [*keys, *_sent_along(error)]
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        current.__traceback__ = None  # its frames hold headers, requests and clients
        current.args = tuple(
            masking.value(str(arg) if isinstance(arg, BaseException) else arg, keys) for arg in current.args
        )
        if isinstance(current, openai.APIError):
            current.message = masking.text(current.message, keys)
            current.body = masking.value(current.body, keys)
            current.code, current.param, current.type = (
                masking.value(part, keys) for part in (current.code, current.param, current.type)
            )
            current.request = _clean_request(current.request, keys)
        if isinstance(current, openai.APIStatusError):
            current.response = _clean_response(current.response, keys)
            current.request_id = masking.value(current.request_id, keys)
        elif isinstance(current, (httpx2.RequestError, httpx2.HTTPStatusError)):
            if isinstance(current, httpx2.HTTPStatusError):
                current.response = _clean_response(current.response, keys)
            current.request = _clean_request(_request_of(current), keys)
        elif isinstance(current, UnicodeDecodeError):
            current.object = masking.value(bytes(current.object), keys)
        elif isinstance(current, JSONDecodeError):
            current.doc = masking.value(current.doc, keys)
        # A context that is not shown is dropped, and so is one of aiohttp, which holds the request's headers.
        if current.__suppress_context__ or type(current.__context__).__module__.startswith("aiohttp"):
            current.__context__ = None
        pending += [current.__cause__, current.__context__]


def _sent_along(error: BaseException) -> list[str]:
    """Return the secrets in the headers of the request that an exception belongs to."""
    request = _request_of(error)
    return secrets_of(dict(request.headers)) if request is not None else []


def _request_of(error: BaseException) -> httpx2.Request | None:
    try:
        return getattr(error, "request", None)
    except RuntimeError:  # an exception of httpx2 that belongs to no request
        return None


def _clean_request(request: httpx2.Request | None, keys: Collection[str]) -> httpx2.Request:
    """Return a copy of *request* without secrets and without its body."""
    import httpx2

    if request is None:
        return httpx2.Request("POST", "http://unknown.invalid/")
    headers = [
        (name, masking.text(text, keys))
        for name, text in request.headers.multi_items()
        if not _is_secret(name)
    ]
    url = request.url.copy_with(userinfo=b"") if request.url.userinfo else request.url
    return httpx2.Request(
        request.method, masking.text(str(url), keys), headers=httpx2.Headers(headers, encoding="utf-8")
    )


def _clean_response(response: httpx2.Response, keys: Collection[str]) -> httpx2.Response:
    import httpx2

    try:
        content = response.content
    except (httpx2.StreamError, httpx2.HTTPError):  # the connection broke while it was read
        content = b""
    headers = [
        (name, masking.text(text, keys))
        for name, text in response.headers.multi_items()
        if name not in _DROPPED
    ]
    return httpx2.Response(
        response.status_code,
        headers=httpx2.Headers(headers, encoding="utf-8"),  # a mask is not ASCII
        content=masking.value(content, keys),
        request=_clean_request(response.request, keys),
    )
