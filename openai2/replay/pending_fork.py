"""A fork that is not there yet: it enters the store together with its first answer.

Rules: the first request is decided, sent and answered like any other, only that it goes on record when its
answer does, in one transaction with the fork and with all that comes before the question. Fails it, or is
it stopped with nothing to show, nothing was made. What a crash takes is one answer; the question is on
record where it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import request_events
from openai2.core.projection import View
from openai2.core.request_events import StreamState
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.history.stream_cache import Decide
from openai2.request.effects import Open
from openai2.store import Store, Transaction


class PendingFork(Conversation):
    """A fork that enters the store together with its first answer, and all that comes before it."""

    def __init__(self, store: Store, lineage: Lineage, forked: ev.Forked) -> None:
        super().__init__(store, lineage, [forked])
        self.forked = forked
        self.born = False
        self._batches: list[list[ev.Event]] = []
        self._opening: list[ev.Event] = []
        self._expected = View()

    def expect(self, batches: Sequence[list[ev.Event]], view: View) -> None:
        """The events that come before the first question, and the view that they make."""
        self._batches, self._expected = list(batches), view

    def begin_job(self, opening: Open) -> Callable[[Transaction], None]:
        if self.born:
            return super().begin_job(opening)

        def job(tx: Transaction) -> None:
            before = [event for batch in self._batches for event in batch]
            events, begun = request_events.begin(opening.ask, self._state(1 + len(before)))
            texts = {
                self.lineage.base + version: bytes(event.message)
                for version, event in enumerate([*before, *events], 2)
                if isinstance(event, ev.MessageAdded)
            }
            inherited = [number for number in begun.sent if number not in texts]
            texts.update(encoded_messages(tx, self.lineage, inherited))
            self._opening = events
            opening.be(begun, [texts[number] for number in begun.sent])

        return job

    def end_job(self, request: int, decide: Decide) -> Callable[[Transaction], None]:
        if self.born:
            return super().end_job(request, decide)

        def job(tx: Transaction) -> None:
            version = 1 + sum(map(len, self._batches)) + len(self._opening)
            closing = decide(self._state(version))
            if not any(isinstance(event, ev.MessageAdded) for event in closing):
                return  # it failed, or was stopped with nothing to show: nothing was made
            for batch in [[], *self._batches, self._opening]:
                self.commit_job(partial(_settled, batch))(tx)
            self.commit_job(decide)(tx)
            self.born = True

        return job

    def _state(self, version: int) -> StreamState:
        return StreamState(self._expected.copy(), version, self.lineage.base + version + 1)


def _settled(batch: list[ev.Event], state: StreamState) -> list[ev.Event]:
    """A decision that was made before: *batch*, whatever the state."""
    return batch
