"""Find what a server says in an error, whatever shape it has. No I/O.

Servers that are compatible with the API send `{"error": {"message": …}}`, a list of it, `{"error": "text"}`,
`{"detail": …}`, plain text or a page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from typing import Any, NamedTuple

import msgspec

from openai2.core.typeguards import is_list, is_mapping

#: Characters of a server's words that an error text shows.
MAX_LENGTH = 1000

#: The fields that hold a server's words; the first that has any counts.
_WORDS = (
    *("message", "error", "detail", "details", "msg", "error_message", "error_msg", "errorMessage"),
    *("errors", "error_description", "description", "reason", "title", "fault"),
)
#: The fields that make an object without `choices` an error.
_ERRORS = ("error", "detail", "message", "msg", "error_msg", "error_message", "errorMessage", "errors")
_DEPTH = 8
_TITLE = re.compile(r"<(title|h1|message)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")


class ServerWords(NamedTuple):
    """The text of an error (None: the server gives no reason), its code and its type."""

    text: str | None
    code: str | None = None
    type: str | None = None


def is_error(body: object) -> bool:
    """Return whether decoded JSON that is no chat completion is an error."""
    if is_list(body):
        return any(is_error(item) for item in body[:1])
    if not is_mapping(body) or body.get("choices"):
        return False
    return bool(body.get("error")) or (
        any(body.get(name) for name in _ERRORS) and words_of(body).text is not None
    )


def words_of(body: object) -> ServerWords:
    """Return what *body* says: decoded JSON, or text."""
    text = _text(body, _DEPTH)
    code, kind = _field(body, "code", _DEPTH), _field(body, "type", _DEPTH)
    return ServerWords(
        None if text is None else shorten(text),
        str(code) if isinstance(code, (str, int)) and not isinstance(code, bool) else None,
        kind if isinstance(kind, str) else None,
    )


def words_of_bytes(body: bytes) -> ServerWords:
    """Return what *body* says: JSON, plain text or a page."""
    try:
        return words_of(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return words_of(body.decode(errors="replace"))


def shorten(text: str) -> str:
    """Return *text* in one line of at most `MAX_LENGTH` characters."""
    line = " ".join(text[: 4 * MAX_LENGTH].split())
    return line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 1] + "…"


def _text(value: object, depth: int) -> str | None:
    if isinstance(value, str):
        return _page_text(value) if value.lstrip()[:1] == "<" else value.strip() or None
    if depth and is_list(value):
        found = [text for item in value[:10] if (text := _text(item, depth - 1)) is not None]
        return "; ".join(found) or None
    if depth and is_mapping(value):
        found = [text for name in _WORDS if (text := _text(value.get(name), depth - 1)) is not None][:1]
        return _with_origin(found[0], value, depth) if found else None
    return None


def _with_origin(text: str, error: Mapping[str, Any], depth: int) -> str:
    """Add where the error is (FastAPI), or what the provider behind a router said (OpenRouter)."""
    if is_list(place := error.get("loc")):
        text = f"{'.'.join(str(step) for step in place[:10])}: {text}"
    if is_mapping(metadata := error.get("metadata")) and (raw := _raw_text(metadata.get("raw"), depth)):
        text = text if raw in text else f"{text}: {raw}"
    return text


def _raw_text(raw: object, depth: int) -> str | None:
    if isinstance(raw, str) and raw.lstrip()[:1] in ("{", "["):
        try:
            return _text(msgspec.json.decode(raw), depth - 1) or raw
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return raw
    return _text(raw, depth - 1)


def _page_text(page: str) -> str | None:
    """Return the title of a page; without one, its text."""
    page = page[: 20 * MAX_LENGTH]
    titled = _TITLE.search(page)
    return unescape(_TAG.sub(" ", titled[2] if titled else page)).strip() or None


def _field(body: object, name: str, depth: int) -> Any:
    if not depth:
        return None
    if is_list(body):
        return _field(body[0], name, depth - 1) if body else None
    if not is_mapping(body):
        return None
    inner = body.get("error")
    found = _field(inner, name, depth - 1) if is_mapping(inner) or is_list(inner) else None
    return body.get(name) if found is None else found
