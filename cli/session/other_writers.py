"""Changes to the conversation by other writers: another terminal or another program.

Invariants:
- Other writers are not locked out; their changes are reported to the person.
- Foreign changes are found by version: all events during the prompt, and during an answer all but our round.
"""

from __future__ import annotations

from openai2.cli.terminal.i18n import _, counted
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.history import drafts

#: Types of the events that belong to rounds or to the start of a conversation.
_ROUND_TYPES = frozenset(
    "created forked message_added request_started request_stopped request_failed truncated".split()
)


class ChangeWatch:
    """Watch a conversation for events after the version that the person has seen."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._version = conversation.version

    def mark_seen(self) -> None:
        """Mark all events up to the current version as seen."""
        self._version = self._conversation.version

    def news(self, own_rounds: int = 0) -> str | None:
        """Return a line about the changes by other writers since the last look, or None; mark them as seen.

        *own_rounds* of the new rounds are those of this session.
        """
        if self._conversation.version == self._version:
            return None
        rounds, has_other_changes = -own_rounds, False
        for record in self._conversation.events(after=self._version):
            event = record.event
            self._version = record.version
            if isinstance(event, ev.MessageAdded):
                # A round is counted by its answer. An imported message belongs to no request.
                rounds += event.answer is not None
                has_other_changes = has_other_changes or event.request is None
            elif record.type not in _ROUND_TYPES and not (own_rounds and isinstance(event, ev.RolledBack)):
                has_other_changes = True
        if rounds > 0:
            return counted("another process added {n} round", "another process added {n} rounds", rounds)
        return _("another process changed the conversation") if has_other_changes else None

    def is_busy(self) -> bool:
        """True if a request is running. Between our own requests, that is a request of another writer."""
        with self._conversation.store.reading() as reader:
            return any(drafts.is_alive(draft) for draft in reader.drafts(self._conversation.id))
