"""The SDK's clients: one for each key, set of options and event loop, shared by the whole process.

Invariants:
- A client never retries: the request flow does.
- A client is used only in the event loop that it was made in, and is closed when that loop ends.
- A caller's own `http_client` is used as it is, and never closed.
- A process that was forked makes clients of its own: sockets belong to the parent.
- No log record of the SDK or of the HTTP libraries below it shows the key of a client that was made here.

Threads use the SDK's default client, asyncio uses the SDK's client over aiohttp, and other event loops use
the SDK's default async client.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import logging
import os
import threading
import weakref
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from openai2.api import addresses
from openai2.api.via_create import is_function_of
from openai2.core.typeguards import is_mapping, is_sequence
from openai2.errors import NoKey
from openai2.keys import masking

if TYPE_CHECKING:
    from typing import TypeGuard

    import openai

#: Clients kept by the process, and by each event loop. The least recently used one is evicted first.
MOST_CLIENTS = 256

#: What the SDK reads from the environment when it makes a client: another value needs another client.
_ENVIRONMENT = (
    *("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "OPENAI_API_KEY"),
    *("OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)

#: Where records about requests come from. A filter applies only to the very logger that it is added to.
_LOGGERS = (
    *("openai", "openai._base_client", "openai._legacy_response", "openai._response"),
    *("httpx2", "httpx", "aiohttp.client"),
    *(
        f"{core}.{part}"
        for core in ("httpcore2", "httpcore")
        for part in ("connection", "http11", "http2", "proxy", "socks")
    ),
)


class _MaskingFilter(logging.Filter):
    """Masks keys in log records: servers echo keys in headers, and headers are logged in full."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        masked = masking.text(message, tuple(self.keys))
        if masked != message:
            record.msg, record.args = masked, ()
        return True


_masking_filter = _MaskingFilter()


class _Clients(OrderedDict[Any, Any]):
    """Clients by key and options, the most recently used last."""

    #: Closes the clients when their event loop ends.
    guard: AsyncGenerator[None, None]

    def __repr__(self) -> str:
        return f"<{len(self)} clients>"


_lock = threading.Lock()
_sync_clients = _Clients()
#: Clients by event loop: an asyncio loop, or trio's token.
_async_clients: dict[Any, _Clients] = {}
#: Async clients over a caller's own `http_client`, which is the caller's to close.
_borrowed: weakref.WeakSet[openai.AsyncOpenAI] = weakref.WeakSet()
#: How many exchanges use an async client.
_users: Counter[openai.AsyncOpenAI] = Counter()
#: Clients of the parent process, which this one must neither use nor close.
_inherited: list[Any] = []


def _abandon_inherited() -> None:
    global _lock, _sync_clients, _async_clients
    _inherited.extend((_sync_clients, _async_clients))
    _lock, _sync_clients, _async_clients = threading.Lock(), _Clients(), {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_inherited)


# -- Blocking clients


def client(key: str | None, options: Mapping[str, Any]) -> openai.OpenAI:
    """Return the shared client for *key* and *options*. The SDK closes it when nothing refers to it."""
    from openai2.api.redirects import Client

    name = _name(key, options)
    with _lock:
        known: Any = _sync_clients.get(name)
        if known is None or known.is_closed():
            known = _sync_clients[name] = _make(Client, key, options)
            while len(_sync_clients) > MOST_CLIENTS:
                _sync_clients.popitem(last=False)
        _sync_clients.move_to_end(name)
    shared: openai.OpenAI = known
    return shared


# -- Clients of event loops


async def acquire(key: str | None, options: Mapping[str, Any]) -> openai.AsyncOpenAI:
    """Return the shared client of the running event loop for *key* and *options*.

    It is not evicted before `release` was called as often as this.
    """
    import openai
    from anyio.lowlevel import current_token

    from openai2.api.redirects import AsyncClient

    loop: Any = current_token().native_token
    clients = _async_clients.get(loop)
    if clients is None:
        close_ended()
        clients = _async_clients[loop] = _Clients()
        clients.guard = _close_at_end_of(loop, clients)
        await anext(clients.guard)
    own = options.get("http_client")
    over_aiohttp = own is None and _suits_aiohttp(loop)
    name = (over_aiohttp, *_name(key, options))
    known: Any = clients.get(name)
    if known is None or known.is_closed():
        http = openai.DefaultAioHttpClient() if over_aiohttp else own
        known = clients[name] = _make(AsyncClient, key, {**options, "http_client": http})
        if own is not None:
            _borrowed.add(known)
    shared: openai.AsyncOpenAI = known
    _users[shared] += 1
    clients.move_to_end(name)
    if len(clients) > MOST_CLIENTS:
        await _evict(clients)
    return shared


def release(used: openai.AsyncOpenAI) -> None:
    """Give back a client that `acquire` returned."""
    _users[used] -= 1
    if not _users[used]:
        del _users[used]


async def _evict(clients: _Clients) -> None:
    idle = [name for name, known in clients.items() if known not in _users]
    for known in [clients.pop(name) for name in idle[: len(clients) - MOST_CLIENTS]]:
        await _close(known)


async def _close(known: openai.AsyncOpenAI) -> None:
    if known not in _borrowed:
        await known.close()


def _is_asyncio(loop: object) -> TypeGuard[asyncio.AbstractEventLoop]:
    return isinstance(loop, asyncio.AbstractEventLoop)


def _suits_aiohttp(loop: object) -> bool:
    import httpcore2
    import httpx2

    return (
        _is_asyncio(loop)
        # Recordings and mocks replace these, and expect to see every request.
        and is_function_of(httpx2.AsyncHTTPTransport.handle_async_request, "httpx2")
        and is_function_of(httpcore2.AsyncConnectionPool.handle_async_request, "httpcore2")
    )


async def _close_at_end_of(loop: Any, clients: _Clients) -> AsyncGenerator[None, None]:
    # asyncio.run() and trio.run() close suspended async generators just before they close the loop.
    import anyio

    try:
        yield
    finally:
        if _async_clients.get(loop) is clients:
            del _async_clients[loop]
            with anyio.CancelScope(shield=True):
                for known in clients.values():
                    await _close(known)


def close_ended() -> None:
    """Close the clients of asyncio loops that do not run any more and did not close their generators."""
    for loop, clients in list(_async_clients.items()):
        if _is_asyncio(loop) and loop.is_closed():
            del _async_clients[loop]
            for known in clients.values():
                closing = _close(known)
                with suppress(StopIteration):  # with its loop closed, aiohttp has nothing to wait for
                    closing.send(None)
                closing.close()


atexit.register(close_ended)


# -- Both


def _freeze(value: Any) -> Any:
    if is_mapping(value):
        return tuple(sorted((name, _freeze(inner)) for name, inner in value.items()))
    if is_sequence(value):
        return tuple(map(_freeze, value))
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _name(key: str | None, options: Mapping[str, Any]) -> tuple[Any, ...]:
    digest = None if key is None else hashlib.sha256(key.encode()).digest()  # names show up in tracebacks
    return digest, _freeze(options), tuple(map(os.environ.get, _ENVIRONMENT))


def _make(kind: Any, key: str | None, options: Mapping[str, Any]) -> Any:
    import openai

    if key:
        if not _masking_filter.keys:
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(_masking_filter)
        _masking_filter.keys.add(masking.Hidden(key))
    try:
        return kind(api_key=key, **{**addresses.clean(options), "max_retries": 0})
    except openai.OpenAIError as error:
        if key is None:
            raise NoKey(
                "no API key: pass api_key=…, or set OPENAI_API_KEY; openai2.offline answers without one"
            ) from error
        raise
