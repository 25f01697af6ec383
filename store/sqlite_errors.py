"""Translate the errors of a store, SQLite's and those of reading damaged data, into `openai2.errors`.

Invariant: whatever fails because the content of a file is damaged leaves a store as DamagedStore.
"""

from __future__ import annotations

import sqlite3

from openai2.errors import DamagedStore, NotAStore, Openai2Error, Refused, StoreUnavailable

# sqlite3 raises UnicodeDecodeError if text in a damaged file is not UTF-8.
_SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
_DAMAGED = "{name} is damaged: {reason}"
# What fails when the fold of a stream meets an event that does not fit, or a column of another type.
_MISFITS = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)
_PACKAGES = tuple(
    f"openai2.{name}." for name in "archive audit core history html readmodels redaction store".split()
)
_BAD_TEXT = "{name} is damaged: it holds text that is not UTF-8"


class TranslatedErrors:
    """A context in which these errors leave as ours; *name* is the store's name in the text.

    A class, because a generator takes ten times as long to enter and leave.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _SQLITE_ERRORS):
            raise translate(error, self._name) from error
        if isinstance(error, Exception) and _is_damage(error):
            reason = f"{type(error).__name__}: {error}"
            raise DamagedStore(_DAMAGED, name=self._name, reason=reason) from error


def _is_damage(error: Exception) -> bool:
    """Return True if *error* comes from decoding or folding data, not from the caller's own code."""
    if isinstance(error, Openai2Error):
        return False
    if type(error).__module__ == "msgspec" or isinstance(error, RecursionError):
        return True
    trace = error.__traceback__
    if not isinstance(error, _MISFITS) or trace is None or "closed file" in str(error):
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    return frame.f_globals["__name__"].startswith(_PACKAGES) and frame.f_code.co_name != "encode"


def translate(error: sqlite3.Error | UnicodeDecodeError, name: str) -> Openai2Error:
    """Return the error of ours for *error* in the store *name*."""
    if isinstance(error, UnicodeDecodeError):
        return DamagedStore(_BAD_TEXT, name=name)
    reason = str(error)
    text = reason.lower()
    kind: type[Openai2Error]
    if "not a database" in text:
        kind, template = NotAStore, "{name} is not a database, or is damaged: {reason}"
    elif "malformed" in text:
        kind, template = DamagedStore, _DAMAGED
    elif "no such table" in text or "no such column" in text or "has no column" in text:
        kind, template = DamagedStore, "{name} lacks a table ({reason}): run `openai2 rebuild`"
    elif "decode to utf-8" in text:
        kind, template = DamagedStore, _BAD_TEXT
    elif "append-only" in text:
        kind, template = Refused, "{name}: {reason}"
    elif "full" in text:
        kind, template = StoreUnavailable, "{name} cannot grow: the disk is full"
    elif "readonly" in text:
        kind, template = StoreUnavailable, "{name} cannot be written to: it, or its folder, is read-only"
    elif "locked" in text or "busy" in text:
        kind, template = StoreUnavailable, "{name} is locked by another process: try again later"
    else:
        kind, template = StoreUnavailable, "{name} cannot be used: {reason}"
    return kind(template, name=name, reason=reason)
