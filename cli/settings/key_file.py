"""The key file: a line for each key, readable by its owner alone.

A line is a key, or, where there is more to say of it, a JSON object: its name, the server that it is for, and
in place of the key a command that prints it, or that the system's keyring has it.

Rules: a file that others can read is refused, before a key of it is used, with the command that mends
it; it is never rewritten in place but replaced whole, by one process at a time (`files`). Nothing here puts
a key into an error.
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

_HEAD = "# API keys of openai2, one a line. Nobody but you may read this file.\n"
_MOST_BYTES = 1_000_000


class UnsafeKeyFile(Openai2Error):
    """The key file cannot be used as it is; the sentence says what mends it."""


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A key that is kept: itself, or the *command* that prints it, or that the *keyring* has it."""

    key: str | None = None
    name: str | None = None
    base_url: str | None = None
    command: str | None = None
    keyring: bool = False

    def __repr__(self) -> str:
        return f"<key {self.name or ''}>"

    def is_named(self, word: str) -> bool:
        """Whether *word* is its name, or its fingerprint."""
        return word == self.name or (self.key is not None and word == fingerprint(self.key))


_entry = msgspec.json.Decoder(Entry, strict=True).decode


class KeyFile:
    """The keys in the file at *path*, in the order in which they were added."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """The keys; none where there is no file. Raises UnsafeKeyFile."""
        try:
            with open(self.path, "rb") as file:
                self._check(os.fstat(file.fileno()))
                raw = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return []
        lines = raw.decode("utf-8", "replace").splitlines()
        return [self._read(line) for line in lines if line.strip() and not line.startswith("#")]

    def read(self) -> list[str]:
        """The keys that stand in the file itself."""
        return [entry.key for entry in self.entries() if entry.key is not None]

    def add(self, key: str) -> bool:
        """Add a key; whether it is new. Raises BadInput, UnsafeKeyFile."""
        return self.keep(Entry(key=key))

    def keep(self, entry: Entry) -> bool:
        """Add an entry, checked; whether it is new. Raises BadInput, UnsafeKeyFile."""
        if entry.key is not None:
            check_key(entry.key)
            if entry.key.startswith(("#", "{")):
                raise BadInput("an API key does not begin with # or {bracket}", bracket="{")
        check_name(entry.name)

        def added(entries: list[Entry]) -> list[Entry]:
            if entry.key is not None and any(held.key == entry.key for held in entries):
                return entries
            if entry.name is not None and any(held.name == entry.name for held in entries):
                raise BadInput("there is a key named {name} already", name=entry.name)
            return [*entries, entry]

        return self._change(added)

    def remove(self, word: str) -> Entry:
        """Remove the key with that name or fingerprint. Raises BadInput, UnsafeKeyFile."""
        gone: list[Entry] = []

        def left(entries: list[Entry]) -> list[Entry]:
            gone.extend(held for held in entries if held.is_named(word))
            if not gone:
                raise BadInput(
                    "no key has that name or fingerprint: `openai2 read_apikey` shows which there are"
                )
            return [held for held in entries if held not in gone]

        self._change(left)
        return gone[0]

    def clear(self) -> bool:
        """Remove the file, whatever is in it; whether there was one."""
        with private_files.locked(self.path):
            try:
                self.path.unlink()
            except FileNotFoundError:
                return False
            return True

    def _change(self, change: Callable[[list[Entry]], list[Entry]]) -> bool:
        with private_files.locked(self.path):
            before = self.entries()
            after = change(before)
            if after != before:
                private_files.replace(self.path, _HEAD + "".join(f"{_line(entry)}\n" for entry in after))
            return after != before

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeKeyFile("the key file {path} is no file", path=str(self.path))
        if os.name == "posix" and status.st_mode & 0o077:
            raise UnsafeKeyFile(
                "others can read or change the key file {path}, so no key of it is used; mend it: {command}",
                path=str(self.path),
                command=f"chmod 600 {shlex.quote(str(self.path))}",
            )

    def _read(self, line: str) -> Entry:
        try:
            entry = _entry(line) if line.startswith("{") else Entry(key=line.strip())
            if entry.key is not None:
                check_key(entry.key)
            elif entry.command is None and not (entry.keyring and entry.name):
                raise BadInput("there is no key in it")
            return entry
        except (BadInput, msgspec.DecodeError, UnicodeError):
            raise UnsafeKeyFile(
                "the key file {path} holds something that is no API key: mend it, or start anew with "
                "`openai2 clear_apikey`",
                path=str(self.path),
            ) from None


def _line(entry: Entry) -> str:
    if entry.key is not None and entry == Entry(key=entry.key):
        return entry.key
    return msgspec.json.encode(entry).decode()


def check_name(name: str | None) -> None:
    """Refuse a name that could not be told from a key, or typed. Raises BadInput."""
    if name is None:
        return
    if not name.strip() or any(char.isspace() or not char.isprintable() for char in name) or len(name) > 64:
        raise BadInput("a key's name is a word of at most 64 characters")
    if name.startswith("sk-"):
        raise BadInput("a key's name does not look like a key: it begins with something other than sk-")
