"""What others do to the conversation meanwhile: another terminal, another program.

Rules: nobody is locked out, and each is told. What is not our own is found by comparing versions: all that
came while we waited for a line, and what came besides our own round while an answer streamed.
"""

from __future__ import annotations

from openai2.cli.terminal.i18n import _, counted
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.history import drafts

#: What comes with a round, and how a conversation begins.
_ROUNDS = frozenset(
    "created forked message_added request_started request_stopped request_failed truncated".split()
)


class Watch:
    """A conversation, and the version up to which a person knows it."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._version = conversation.version

    def seen(self) -> None:
        """All that has happened is known."""
        self._version = self._conversation.version

    def news(self, own: int = 0) -> str | None:
        """What others did since then, of which *own* rounds are ours; None for nothing. It counts as seen."""
        if self._conversation.version == self._version:
            return None
        rounds, others = -own, False
        for record in self._conversation.events(after=self._version):
            event = record.event
            self._version = record.version
            if isinstance(event, ev.MessageAdded):
                # A question joins with its answer; what was imported is in no request.
                rounds += event.answer is not None
                others = others or event.request is None
            elif record.type not in _ROUNDS and not (own and isinstance(event, ev.RolledBack)):
                others = True
        if rounds > 0:
            return counted("{n} round was added elsewhere", "{n} rounds were added elsewhere", rounds)
        return _("the conversation was changed elsewhere") if others else None

    def busy(self) -> bool:
        """Whether a request is under way, which, while we ask nothing, is somebody else's."""
        with self._conversation.store.reading() as reader:
            return any(drafts.is_alive(draft) for draft in reader.drafts(self._conversation.id))
