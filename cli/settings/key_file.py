"""The key file: one API key a line, readable by its owner only.

A line is a key or a JSON object. The object may add a name and a server, and may have, instead of the key, a
command that prints it or a reference to the system keyring.

Invariants:
- A file that other users can read is refused before a key from it is used; the error has the command that
  repairs it.
- The file is replaced as a whole, by one process at a time (`private_files`).
- No error contains a key.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec

from openai2.cli.settings import private_files
from openai2.errors import BadInput, Openai2Error
from openai2.keys.pool import check_key, fingerprint

_HEADER = "# API keys of openai2, one a line. Only you may read this file.\n"
_MAX_BYTES = 1_000_000


class UnsafeKeyFile(Openai2Error):
    """The key file cannot be used as it is; the error says how to repair it."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A stored key: the *key* itself, a *command* that prints it, or a *keyring* entry under *name*."""

    key: str | None = None
    name: str | None = None
    base_url: str | None = None
    command: str | None = None
    keyring: bool = False

    def __repr__(self) -> str:
        return f"<key {self.name or ''}>"

    def is_named(self, word: str) -> bool:
        """Return whether *word* is this key's name or fingerprint."""
        return word == self.name or (self.key is not None and word == fingerprint(self.key))


_decode = msgspec.json.Decoder(Entry, strict=True).decode


class KeyFile:
    """The keys in the file at *path*, in the order in which they were added."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """Return the stored keys; none if there is no file. Raises UnsafeKeyFile."""
        try:
            with open(self.path, "rb") as file:
                self._check(os.fstat(file.fileno()))
                raw = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return []
        lines = raw.decode("utf-8", "replace").splitlines()
        return [self._parse(line) for line in lines if line.strip() and not line.startswith("#")]

    def add(self, new: Entry) -> bool:
        """Add a key; return False if it is there already. Raises BadInput, UnsafeKeyFile."""
        if new.key is not None:
            check_key(new.key)
            if new.key.startswith(("#", "{")):
                raise BadInput("an API key must not start with # or {bracket}", bracket="{")
        check_name(new.name)

        def with_new(entries: list[Entry]) -> list[Entry]:
            if new.key is not None and any(entry.key == new.key for entry in entries):
                return entries
            if new.name is not None and any(entry.name == new.name for entry in entries):
                raise BadInput("there is already a key named {name}", name=new.name)
            return [*entries, new]

        return self._change(with_new)

    def remove(self, word: str) -> Entry:
        """Remove and return the key with that name or fingerprint. Raises BadInput, UnsafeKeyFile."""
        removed: list[Entry] = []

        def without_named(entries: list[Entry]) -> list[Entry]:
            removed.extend(entry for entry in entries if entry.is_named(word))
            if not removed:
                raise BadInput("no key has that name or fingerprint: `openai2 read_apikey` lists the keys")
            return [entry for entry in entries if entry not in removed]

        self._change(without_named)
        return removed[0]

    def clear(self) -> bool:
        """Delete the file, whatever it contains; return False if there was none."""
        with private_files.locked(self.path):
            try:
                self.path.unlink()
            except FileNotFoundError:
                return False
            return True

    def _change(self, edit: Callable[[list[Entry]], list[Entry]]) -> bool:
        with private_files.locked(self.path):
            before = self.entries()
            after = edit(before)
            if after != before:
                lines = "".join(f"{_format(entry)}\n" for entry in after)
                private_files.replace(self.path, _HEADER + lines)
            return after != before

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeKeyFile("the key file {path} is not a regular file", path=str(self.path))
        if os.name == "posix" and status.st_mode & 0o077:
            raise UnsafeKeyFile(
                "other users can read or change the key file {path}, so its keys are not used; run {command}",
                path=str(self.path),
                command=f"chmod 600 {shlex.quote(str(self.path))}",
            )

    def _parse(self, line: str) -> Entry:
        try:
            entry = _decode(line) if line.startswith("{") else Entry(key=line.strip())
            if entry.key is not None:
                check_key(entry.key)
            elif entry.command is None and not (entry.keyring and entry.name):
                raise BadInput("the entry has no key")
            return entry
        except (BadInput, msgspec.DecodeError, UnicodeError):
            raise UnsafeKeyFile(
                "the key file {path} has a line that is not an API key: correct it, or delete all keys with "
                "`openai2 clear_apikey`",
                path=str(self.path),
            ) from None


def _format(entry: Entry) -> str:
    if entry.key is not None and entry == Entry(key=entry.key):
        return entry.key
    return msgspec.json.encode(entry).decode()


def check_name(name: str | None) -> None:
    """Refuse a name that looks like a key or cannot be typed as one word. Raises BadInput."""
    if name is None:
        return
    if not name.strip() or any(char.isspace() or not char.isprintable() for char in name) or len(name) > 64:
        raise BadInput("a key's name must be one word of at most 64 characters")
    if name.startswith("sk-"):
        raise BadInput("a key's name must not look like a key: it must not start with sk-")
