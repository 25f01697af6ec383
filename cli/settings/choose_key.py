"""Choose the API key and the server that it is sent to.

The order is: `--key` (a key, or the name of a stored one), the keys that the profile names, the environment
variable (the profile's, by default OPENAI_API_KEY), the key file.

Invariants:
- A stored key with a server is sent to that server only.
- A stored key without a server is sent to any server, except that of a profile with a variable of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from openai2.cli.settings import paths
from openai2.cli.settings.config_file import ChosenProfile
from openai2.cli.settings.key_file import Entry, KeyFile, UnsafeKeyFile
from openai2.cli.settings.key_sources import key_of
from openai2.errors import BadInput, NoKey
from openai2.keys.pool import AKPool, check_key

_DEFAULT_VARIABLE = "OPENAI_API_KEY"


class ChosenKey(NamedTuple):
    """A key or a pool of keys, and the server's URL (None: the default server)."""

    key: str | AKPool
    base_url: str | None


def choose_key(given: str | None, base_url: str | None, chosen: ChosenProfile | None) -> ChosenKey:
    """Return the key for a server; *given* is the value of `--key`.

    Raises NoKey, BadInput (malformed, unknown, or for another server), Refused (command or keyring fails).
    """
    if given is not None:
        return _given_key(given, base_url)
    if chosen is not None and chosen.keys:
        return _combine([_find_entry(name) for name in chosen.keys], base_url)
    profile = chosen.profile if chosen is not None else None
    variable = (profile.environment if profile is not None else None) or _DEFAULT_VARIABLE
    needs_key = profile is None or profile.key
    if needs_key and (key := paths.environment_key(variable)) is not None:
        return ChosenKey(check_key(key), base_url)
    has_own_keys = profile is not None and (variable != _DEFAULT_VARIABLE or not profile.key)
    if entries := _matching_entries(base_url, bound_only=has_own_keys):
        return _combine(entries, base_url)
    if profile is not None and (placeholder := profile.key_or_placeholder(None)) is not None:
        return ChosenKey(placeholder, base_url)
    if has_own_keys:
        raise NoKey(
            "there is no API key for {title}: set {variable}, or run `openai2 add_apikey --base-url {url}`",
            title=profile.title if profile is not None else "",
            variable=variable,
            url=base_url or "URL",
        )
    raise NoKey("there is no API key: run `openai2 add_apikey`, set OPENAI_API_KEY, or use --offline")


def _given_key(word: str, base_url: str | None) -> ChosenKey:
    try:
        entry = next((entry for entry in _entries() if entry.name == word), None)
    except UnsafeKeyFile:  # the key may be given in full, then the file is not needed
        entry = None
    return ChosenKey(check_key(word), base_url) if entry is None else _combine([entry], base_url)


def _entries() -> list[Entry]:
    return KeyFile(paths.keys()).entries()


def _find_entry(name: str) -> Entry:
    for entry in _entries():
        if entry.is_named(name):
            return entry
    raise BadInput("there is no key named {name}: `openai2 add_apikey --name {name}` adds it", name=name)


def _matching_entries(base_url: str | None, *, bound_only: bool) -> list[Entry]:
    """Return the stored keys for *base_url*, else those without a server unless *bound_only*.

    Without a *base_url* and without such keys, return the keys of the first key's server.
    """
    entries = _entries()
    if base_url is not None:
        bound = [entry for entry in entries if entry.base_url and _same_url(entry.base_url, base_url)]
        return bound or ([] if bound_only else [entry for entry in entries if entry.base_url is None])
    if unbound := [entry for entry in entries if entry.base_url is None]:
        return [] if bound_only else unbound
    return [entry for entry in entries if _same_url(entry.base_url, entries[0].base_url)]


def _same_url(a: str | None, b: str | None) -> bool:
    return (a or "").rstrip("/") == (b or "").rstrip("/")


def _combine(entries: Sequence[Entry], base_url: str | None) -> ChosenKey:
    """Return the key of *entries*, or a pool of their keys. Raises BadInput if their servers differ."""
    url = base_url or next((entry.base_url for entry in entries if entry.base_url), None)
    for entry in entries:
        if entry.base_url and not _same_url(entry.base_url, url):
            raise BadInput(
                "the key {name} is for {theirs}, not for {address}",
                name=entry.name or "",
                theirs=entry.base_url,
                address=url or "",
            )
    keys = list(dict.fromkeys(key_of(entry) for entry in entries))
    return ChosenKey(keys[0] if len(keys) == 1 else AKPool(keys), url)
