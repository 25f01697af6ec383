"""Where events live. Each name is imported on first use, so that a command loads only what it needs."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai2.store.protocol import Db, Store
    from openai2.store.reader import NO_HASH, Draft, Listed, Reader
    from openai2.store.registry import open_store, path_of, share
    from openai2.store.sqlite import SqliteStore
    from openai2.store.transaction import Transaction

_MODULES = {
    "NO_HASH": "reader",
    "Db": "protocol",
    "Draft": "reader",
    "Listed": "reader",
    "Reader": "reader",
    "SqliteStore": "sqlite",
    "Store": "protocol",
    "Transaction": "transaction",
    "open_store": "registry",
    "path_of": "registry",
    "share": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'openai2.store' has no attribute {name!r}")
    found: object = getattr(import_module(f"openai2.store.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


__all__ = [
    "NO_HASH",
    "Db",
    "Draft",
    "Listed",
    "Reader",
    "SqliteStore",
    "Store",
    "Transaction",
    "open_store",
    "path_of",
    "share",
]
