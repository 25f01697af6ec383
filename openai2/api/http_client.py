"""The HTTP clients under the SDK's: httpx2's, with the SDK's defaults, and less work for each request.

Rules: whatever a request says is put together by httpx2; what is saved is doing so again for one that
differs from the last in its body alone. Where no proxy is set, requests go straight (`direct`, `adirect`);
where one is, by httpx2's own transports, which then keep to deadlines too.
"""

from __future__ import annotations

import os
import urllib.request
from typing import Any

import httpx2
import openai

from openai2.api import deadline
from openai2.api.async_transport import AsyncDirect
from openai2.api.transport import Direct

#: What the SDK gives a client of its own.
_LIMITS = openai.DEFAULT_CONNECTION_LIMITS


class _SameHead:
    """Remembers the last request that was built, and makes the next one like it of that."""

    _last: tuple[tuple[Any, ...], httpx2.Request] | None = None

    def build_request(self, method: str, url: httpx2.URL | str, **parts: Any) -> httpx2.Request:
        """As httpx2's."""
        client: Any = self
        content = parts.pop("content", None)
        said = (method, url, parts)
        known = self._last
        same = isinstance(content, bytes) and not client.cookies
        if same and known is not None and known[0] == said:
            return _like(known[1], content)
        whole: Any = super()
        built: httpx2.Request = whole.build_request(method, url, content=content, **parts)
        if same:
            self._last = (said, built)
        return built


def _like(known: httpx2.Request, content: bytes) -> httpx2.Request:
    """A request with that head, except for its length, and this body."""
    request = httpx2.Request(
        known.method,
        known.url,
        headers=known.headers,
        stream=httpx2.ByteStream(content),
        extensions=known.extensions,
    )
    request.headers.encoding = known.headers.encoding  # which would be found out anew, header by header
    request.headers["Content-Length"] = str(len(content))
    request.read()
    return request


class _Client(_SameHead, openai.DefaultHttpxClient):
    """Closes its connections with its end, as the SDK's own does, but not those of a process that forked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._process = os.getpid()

    def __del__(self) -> None:
        try:
            if self._process == os.getpid():
                self.close()
        except Exception:  # noqa: BLE001, S110 - nobody is left to hear of it
            pass


class _AsyncClient(_SameHead, openai.DefaultAsyncHttpxClient):
    pass


def client() -> httpx2.Client:
    """A client for threads."""
    if not urllib.request.getproxies():
        return _Client(transport=Direct(_LIMITS))
    made = _Client()
    deadline.keep(made, blocking=True)
    return made


def async_client() -> httpx2.AsyncClient:
    """A client for the running event loop."""
    if not urllib.request.getproxies():
        return _AsyncClient(transport=AsyncDirect(_LIMITS))
    made = _AsyncClient()
    deadline.keep(made, blocking=False)
    return made
