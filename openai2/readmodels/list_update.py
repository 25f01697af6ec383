"""Bring the list of conversations up to date: versions, message counts, and the names that it shows.

Invariant: no two conversations in the list have the same name. `append` refuses a name that is taken. An
imported stream keeps its events, so the list shows a taken name with the first free number, as "plans (2)".
"""

from __future__ import annotations

from collections.abc import Iterator

from openai2.core import events as ev
from openai2.core.ids import free_name
from openai2.errors import DamagedStore
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.store import Reader, Transaction
from openai2.store.reader import LIST
from openai2.store.transaction import LISTED_TYPES


class DisplayNames:
    """A fold over all events that give names: the name that the list shows for each conversation."""

    def __init__(self) -> None:
        self._name_by_id: dict[str, str] = {}
        self._taken: set[str] = set()

    def apply(self, conversation: str, event: ev.Event) -> None:
        """Fold in one event, in the order of commit."""
        if isinstance(event, (ev.Created, ev.Forked, ev.Renamed)):
            self._give(conversation, event.name)
        elif isinstance(event, ev.Deleted):
            self._give(conversation, None)

    def _give(self, conversation: str, name: str | None) -> None:
        old = self._name_by_id.pop(conversation, None)
        if old is not None:
            self._taken.remove(old)
        if name is not None:
            shown = free_name(name, self._taken.__contains__)
            self._name_by_id[conversation] = shown
            self._taken.add(shown)

    def of(self, conversation: str) -> str | None:
        """Return the name that the list shows."""
        return self._name_by_id.get(conversation)


def refold_names(tx: Transaction) -> None:
    """Fold all names of the list again, after a redaction removed one."""
    names = DisplayNames()
    for record in tx.events_of_types(LISTED_TYPES):
        names.apply(record.conversation, record.event)
    tx.rename_all(names.of)


def changes(reader: Reader, after: int) -> Iterator[tuple[str, int, str, int, int]]:
    """Yield (id, version, time, position of the last question, messages) of what changed after a position.

    A damaged conversation counts as many messages as the list shows already; it hides no other one.
    """
    for conversation, version, time, asked in reader.changed_since(after):
        try:
            messages = len(views.load(reader, Lineage.read(reader, conversation), version)[0])
        except (DamagedStore, *ev.DECODE_ERRORS, ValueError, LookupError, TypeError):
            listed = reader.conversation(conversation)
            messages = 0 if listed is None else listed.messages
        yield conversation, version, time, asked, messages


def catch_up(tx: Transaction) -> None:
    """Bring the list up to the end of the log."""
    for conversation, version, time, asked, messages in changes(tx, tx.list_cursor()):
        tx.put_listed(conversation, version, time, asked, messages)
    tx.put_cursor(LIST, tx.last_position())
