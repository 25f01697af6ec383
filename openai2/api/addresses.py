"""The address of a server, as a person writes it: checked, and without its password.

Invariants:
- A name and password in an address are sent as Basic authentication. The HTTP libraries never get them as a
  part of the address, which they log.
- No error shows a password or a query.
"""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from openai2.errors import BadInput
from openai2.keys.masking import Hidden

ENDPOINT = "/chat/completions"


class Address(NamedTuple):
    """*url* is the base URL without name and password; *basic* is the Authorization header for them."""

    url: str
    basic: Hidden | None
    password: Hidden | None


@lru_cache(maxsize=64)
def parse(text: str) -> Address:
    """Return the address that *text* means. Raises BadInput, which says the address that is expected."""
    text = text.strip()
    parts = _split(text)
    if parts is None or not parts.hostname or parts.scheme not in ("http", "https") or len(text.split()) > 1:
        raise BadInput(
            "base_url: expected an address like https://api.example.com/v1, without spaces or line ends"
        )
    user, _, server = parts.netloc.rpartition("@")
    path = parts.path.rstrip("/")
    expected = f"{parts.scheme}://{server}{path.removesuffix(ENDPOINT)}"
    if path.endswith(ENDPOINT):
        raise BadInput("base_url is the whole endpoint: pass {expected}", expected=expected)
    if parts.query or parts.fragment:
        raise BadInput(
            "base_url has a query or a fragment: pass {expected}, and the query as the option default_query",
            expected=expected,
        )
    url = f"{parts.scheme}://{server}{parts.path}"
    if not user:
        return Address(url, None, None)
    name, _, password = user.partition(":")
    pair = f"{unquote(name)}:{unquote(password)}"
    return Address(
        url, Hidden("Basic " + b64encode(pair.encode()).decode()), Hidden(unquote(password or name))
    )


def _split(text: str) -> SplitResult | None:
    try:
        return urlsplit(text)
    except ValueError:
        return None


def address_of(client: Mapping[str, Any]) -> Address | None:
    """Return the address that a client with these options uses; None if the SDK chooses it."""
    given = client.get("base_url")
    if given is None and client.get("provider") is None and client.get("data_residency") is None:
        given = os.environ.get("OPENAI_BASE_URL", "").strip() or None
    return None if given is None else parse(str(given))


def clean(client: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a client with a base URL that can be logged."""
    if (address := address_of(client)) is None:
        return {**client}
    headers = dict(client.get("default_headers") or {})
    if address.basic is not None and not any(name.lower() == "authorization" for name in headers):
        headers["Authorization"] = address.basic
    options = {**client, "base_url": address.url}
    if headers:
        options["default_headers"] = headers
    return options
