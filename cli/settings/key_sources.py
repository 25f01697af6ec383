"""Keys stored outside the key file: printed by a command, or in the system keyring.

Invariants:
- The output of a command or of the keyring is a secret; no error contains it.
- The system keyring is accessed through the optional package `keyring`.
"""

from __future__ import annotations

import shlex
import subprocess
from importlib import import_module
from typing import Any

from openai2.cli.settings.key_file import Entry
from openai2.errors import BadInput, Refused
from openai2.keys.pool import check_key

_SERVICE = "openai2"
_TIMEOUT = 120.0  # seconds; the user may have to unlock a password store


def key_of(entry: Entry) -> str:
    """Return the key of an entry, from wherever it is stored. Raises BadInput, Refused."""
    if entry.key is not None:
        return entry.key
    return check_key(_from_keyring(entry) if entry.keyring else _from_command(entry))


def _from_command(entry: Entry) -> str:
    command = entry.command or ""
    facts = {"name": entry.name or command, "command": command}
    try:
        words = shlex.split(command)
        done = subprocess.run(  # noqa: S603 - the user's own command
            words, stdout=subprocess.PIPE, timeout=_TIMEOUT, check=False
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as fault:
        reason = getattr(fault, "strerror", None) or type(fault).__name__
        raise Refused("cannot run the command for the key {name}: {reason}", **facts, reason=reason) from None
    if done.returncode:
        raise Refused(
            "the command for the key {name} failed with status {status}: {command}",
            **facts,
            status=done.returncode,
        )
    lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
    if not lines or not lines[0].strip():
        raise Refused("the command for the key {name} printed no key: {command}", **facts)
    return lines[0].strip()


def _from_keyring(entry: Entry) -> str:
    key = _call_keyring("get_password", entry.name or "")
    if not key:
        raise Refused("the system keyring has no key named {name}", name=entry.name or "")
    return str(key)


def store_in_keyring(name: str, key: str) -> None:
    """Store a key in the system keyring. Raises BadInput, Refused."""
    _call_keyring("set_password", name, key)


def delete_from_keyring(name: str) -> None:
    """Delete a key from the system keyring. Raises BadInput, Refused."""
    _call_keyring("delete_password", name)


def _call_keyring(function: str, *arguments: str) -> Any:
    try:
        keyring: Any = import_module("keyring")
    except ImportError:
        raise BadInput("the system keyring needs the package keyring: pip install keyring") from None
    try:
        return getattr(keyring, function)(_SERVICE, *arguments)
    except Exception as fault:  # noqa: BLE001 - each backend raises its own errors
        raise Refused("the system keyring failed: {kind}", kind=type(fault).__name__) from None
