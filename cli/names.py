"""Names that a shell completes: those of conversations.

Rules: Tab is to answer at once, so nothing heavy is imported, and no database is made; what goes wrong
completes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from openai2.cli import home

if TYPE_CHECKING:
    from click import Context, Parameter

_MOST = 200


def conversations(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of conversations, and the ids of those that have none; those that changed last first."""
    from openai2.engine import Engine
    from openai2.store import path_of

    db = _database(ctx) or os.fspath(home.database())
    try:
        path = path_of(db)
        if path is not None and not os.path.exists(path):
            return []
        with Engine(db) as engine:
            listed = engine.conversations(archived=None)
    except Exception:  # noqa: BLE001 - Tab is no place to complain
        return []
    return matching((line.name or line.id for line in listed), incomplete)


def matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Those of *names* that go on from what is typed."""
    found = dict.fromkeys(name for name in names if name.startswith(incomplete))
    return [CompletionItem(name) for name in [*found][:_MOST]]


def _database(ctx: Context) -> str | None:
    at: Context | None = ctx
    while at is not None:
        if named := at.params.get("db"):
            return str(named)
        at = at.parent
    return None
