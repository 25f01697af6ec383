"""Names that a shell completes: those of conversations.

Rules: Tab is to answer at once, so nothing heavy is imported, and no database is made; what goes wrong
completes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from click import Context, Parameter
    from click.shell_completion import CompletionItem

_MOST = 200


def conversations(ctx: Context, parameter: Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of conversations, and the ids of those that have none; those that changed last first."""
    from openai2.cli.settings.database import is_there, store_to_look
    from openai2.readmodels import conversations as conversation_list

    db = _database(ctx)
    try:
        if not is_there(db):
            return []
        with store_to_look(db) as store:
            listed = conversation_list.conversations(store, archived=None)
    except Exception:  # noqa: BLE001 - Tab is no place to complain
        return []
    return matching((line.name or line.id for line in listed), incomplete)


def matching(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Those of *names* that go on from what is typed."""
    from click.shell_completion import CompletionItem

    found = dict.fromkeys(name for name in names if name.startswith(incomplete))
    return [CompletionItem(name) for name in [*found][:_MOST]]


def _database(ctx: Context) -> str | None:
    at: Context | None = ctx
    while at is not None:
        if named := at.params.get("db"):
            return str(named)
        at = at.parent
    return None
