"""Which key is used, and for which server.

The order: `--key` (a key, or the name of one that is kept), the keys that a profile names, the variable of
the environment (a profile's own, else OPENAI_API_KEY), the key file. A kept key that was added for a server
goes to that server alone; one that was not goes to any, but to none that a profile names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from openai2.cli.commands.config import Chosen
from openai2.cli.settings import paths
from openai2.cli.settings.key_file import Entry, KeyFile, UnsafeKeyFile
from openai2.cli.settings.key_sources import key_of
from openai2.errors import BadInput, NoKey
from openai2.keys.pool import AKPool, check_key

_USUAL = "OPENAI_API_KEY"


class Means(NamedTuple):
    """What a server is asked with: a key or a pool, and its address (None: the usual one)."""

    key: str | AKPool
    base_url: str | None


def means(given: str | None, base_url: str | None, chosen: Chosen | None) -> Means:
    """The key or keys for what is wished. Raises NoKey, which names the ways out, BadInput, Refused."""
    if given is not None:
        return _given(given, base_url)
    if chosen is not None and chosen.keys:
        return _pooled([_named(name) for name in chosen.keys], base_url)
    profile = chosen.profile if chosen is not None else None
    variable = (profile.environment if profile is not None else None) or _USUAL
    foreign = profile is not None and variable != _USUAL
    if (key := paths.environment_key(variable)) is not None and (profile is None or profile.key):
        return Means(check_key(key), base_url)
    if profile is not None and not profile.key:
        foreign = True
    kept = _kept(base_url, foreign=foreign)
    if kept:
        return _pooled(kept, base_url)
    if profile is not None and (placeholder := profile.key_or_placeholder(None)) is not None:
        return Means(placeholder, base_url)
    if foreign:
        raise NoKey(
            "there is no API key for {title}: {variable} names one, and "
            "`openai2 add_apikey --base-url {url}` keeps one",
            title=profile.title if profile is not None else "",
            variable=variable,
            url=base_url or "URL",
        )
    raise NoKey(
        "there is no API key: `openai2 add_apikey` keeps one, OPENAI_API_KEY names one, "
        "and --offline does without"
    )


def _given(word: str, base_url: str | None) -> Means:
    try:
        entry = next((held for held in _file() if held.name == word), None)
    except UnsafeKeyFile:  # which is no reason to refuse a key that is there in full
        entry = None
    return Means(check_key(word), base_url) if entry is None else _pooled([entry], base_url)


def _file() -> list[Entry]:
    return KeyFile(paths.keys()).entries()


def _named(name: str) -> Entry:
    for held in _file():
        if held.is_named(name):
            return held
    raise BadInput("no key named {name} is kept: `openai2 add_apikey --name {name}` adds it", name=name)


def _kept(base_url: str | None, *, foreign: bool) -> list[Entry]:
    """The kept keys that fit: for that server, or for any; with no server named, for one and the same."""
    entries = _file()
    if base_url is not None:
        own = [held for held in entries if held.base_url and _same(held.base_url, base_url)]
        return own or ([] if foreign else [held for held in entries if held.base_url is None])
    if free := [held for held in entries if held.base_url is None]:
        return [] if foreign else free
    return [held for held in entries if _same(held.base_url, entries[0].base_url)]


def _same(one: str | None, other: str | None) -> bool:
    return (one or "").rstrip("/") == (other or "").rstrip("/")


def _pooled(entries: Sequence[Entry], base_url: str | None) -> Means:
    address = base_url or next((held.base_url for held in entries if held.base_url), None)
    astray = next((held for held in entries if held.base_url and not _same(held.base_url, address)), None)
    if astray is not None:
        raise BadInput(
            "the key {name} is for {theirs}, and not for {address}",
            name=astray.name or "",
            theirs=astray.base_url or "",
            address=address or "",
        )
    keys = list(dict.fromkeys(key_of(held) for held in entries))
    return Means(keys[0] if len(keys) == 1 else AKPool(keys), address)
