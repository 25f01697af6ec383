"""Keys that others keep: a command that prints one, and the system's keyring.

Rules: what a command or the keyring says is a secret: it stands in no error. The keyring is that of the
optional package `keyring`, which is not ours to install.
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
_PATIENCE = 120.0  # seconds; a person may have to unlock something


def key_of(entry: Entry) -> str:
    """The key itself. Raises BadInput, Refused where it cannot be had."""
    if entry.key is not None:
        return entry.key
    key = _asked(entry.name or "") if entry.keyring else _printed(entry.command or "", entry.name)
    return check_key(key)


def _printed(command: str, name: str | None) -> str:
    facts = {"name": name or command, "command": command}
    try:
        words = shlex.split(command)
        done = subprocess.run(  # noqa: S603 - it is the person's own command
            words, stdout=subprocess.PIPE, timeout=_PATIENCE, check=False
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as fault:
        reason = getattr(fault, "strerror", None) or type(fault).__name__
        raise Refused(
            "the command for the key {name} cannot be run: {reason}", **facts, reason=reason
        ) from None
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


def _asked(name: str) -> str:
    key = _with_keyring("get_password", name)
    if not key:
        raise Refused("the system's keyring has no key named {name}", name=name)
    return str(key)


def put(name: str, key: str) -> None:
    """Put a key into the system's keyring."""
    _with_keyring("set_password", name, key)


def forget(name: str) -> None:
    """Take a key out of it."""
    _with_keyring("delete_password", name)


def _with_keyring(what: str, *arguments: str) -> Any:
    try:
        keyring: Any = import_module("keyring")
    except ImportError:
        raise BadInput("for the system's keyring the package keyring has to be installed") from None
    try:
        return getattr(keyring, what)(_SERVICE, *arguments)
    except Exception as fault:  # noqa: BLE001 - each system's keyring has errors of its own
        raise Refused("the system's keyring refuses: {kind}", kind=type(fault).__name__) from None
