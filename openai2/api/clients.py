"""The SDK's clients: one for each key and set of options, kept and shared by everybody in the process.

Rules: a client never retries by itself, since a request does (`flow`); its network keeps to deadlines; and
no log record of the SDK or of what it speaks HTTP with shows a key that a client here was made with.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from openai2.core.typeguards import is_mapping, is_sequence
from openai2.errors import NoKey
from openai2.keys import masking

if TYPE_CHECKING:
    import openai

#: Clients kept; the one that was used longest ago goes first.
MOST_CLIENTS = 256

#: What the SDK takes from the environment when a client is made: another value is another client.
_ENVIRONMENT = (
    *("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_CUSTOM_HEADERS", "OPENAI_API_KEY"),
    *("OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)

_ENCODED = tuple(map(getattr(os.environ, "encodekey", str), _ENVIRONMENT))

#: Where records about requests come from. A filter holds for the very logger that it hangs on.
_LOGGERS = (
    *("openai", "openai._base_client", "openai._legacy_response", "openai._response", "httpx2", "httpx"),
    *(
        f"{core}.{part}"
        for core in ("httpcore2", "httpcore")
        for part in ("connection", "http11", "http2", "proxy", "socks")
    ),
)


class _Masking(logging.Filter):
    """Masks the keys in use in what is logged: servers echo them in headers, which are logged in full."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        shown = masking.text(said, tuple(self.keys))
        if shown != said:
            record.msg, record.args = shown, ()
        return True


_masking = _Masking()


class _Clients(OrderedDict[Any, Any]):
    """Clients by key and options, the latest used last."""

    def __repr__(self) -> str:
        return f"<{len(self)} clients>"


_sync_clients = _Clients()
_async_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _forget() -> None:
    """In a process that was forked: its connections are the other's to speak on."""
    global _lock  # noqa: PLW0603 - somebody else may have held it, who is not here
    _lock = threading.Lock()
    _sync_clients.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


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


def _surroundings() -> tuple[Any, ...]:
    # Asked of what os.environ keeps: it encodes each name itself, and raises within itself for each that is
    # missing, which takes twenty times as long.
    kept: Any = getattr(os.environ, "_data", None)
    if kept is None:
        return tuple(map(os.environ.get, _ENVIRONMENT))
    return tuple(map(kept.get, _ENCODED))


def _name(key: str | None, options: Mapping[str, Any]) -> bytes | tuple[Any, ...]:
    digest = None if key is None else hashlib.sha256(key.encode()).digest()  # a name may be seen
    return digest, _frozen(options), _surroundings()


def client(key: str | None, options: Mapping[str, Any]) -> openai.OpenAI:
    """The shared client for that key and these options."""
    import openai

    name = _name(key, options)
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
    name = _name(key, options)
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


#: Clients over a caller's own `http_client`, which is the caller's to close.
_on_loan: weakref.WeakSet[Any] = weakref.WeakSet()
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
                if known not in _on_loan:
                    await known.close()

    held = guard()
    _guards.add(held)
    return held


def _make(kind: Any, key: str | None, options: Mapping[str, Any]) -> Any:
    import openai

    if key:
        if not _masking.keys:
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(_masking)
        _masking.keys.add(masking.Hidden(key))
    from openai2.api import http_client

    own = options.get("http_client") is None
    chosen: dict[str, Any] = {**options, "max_retries": 0}
    if own:
        chosen["http_client"] = http_client.client() if kind is openai.OpenAI else http_client.async_client()
    try:
        made = kind(api_key=key, **chosen)
    except openai.OpenAIError as error:
        if key is None:
            raise NoKey(
                "no API key: pass api_key=…, or set OPENAI_API_KEY; openai2.offline answers without one"
            ) from error
        raise
    if not own:
        _on_loan.add(made)
    return made
