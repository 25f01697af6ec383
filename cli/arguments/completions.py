"""Values that a shell completes: names of conversations, profiles and templates.

Invariants:
- Only the standard library and the modules that a completion needs are imported, when it is asked for.
- A completion never creates a database; if anything fails, it offers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click import Context, Parameter
    from click.shell_completion import CompletionItem

_LIMIT = 200


def conversations(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Return names of conversations, ids of those without a name; the last changed first."""
    from openai2.cli.settings.database import database_exists, store_for_reading
    from openai2.readmodels import conversations as conversation_list

    db = _database(ctx)
    try:
        if not database_exists(db):
            return []
        with store_for_reading(db) as store:
            listed = conversation_list.conversations(store, archived=None)
    except Exception:  # noqa: BLE001 - an error during completion would garble the prompt
        return []
    return _items((line.name or line.id for line in listed), incomplete)


def profiles(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Return names of profiles, the user's first."""
    from openai2.cli.settings import config_file

    try:
        return _items(config_file.read().names(), incomplete)
    except Exception:  # noqa: BLE001 - an error during completion would garble the prompt
        return []


def templates(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """Return names of saved templates."""
    from openai2.cli.settings import template_files

    return _items(template_files.names(), incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    matches = dict.fromkeys(name for name in names if name.startswith(incomplete))
    return [CompletionItem(name) for name in [*matches][:_LIMIT]]


def _database(ctx: Context) -> str | None:
    """Return the value of `--db`, which may stand before or after the command's name."""
    at: Context | None = ctx
    while at is not None:
        if db := at.params.get("db"):
            return str(db)
        at = at.parent
    return None
