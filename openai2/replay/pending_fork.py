"""A fork that enters the store together with its first answer.

Invariants:
- The first request is decided, sent and answered like any other. It goes on record when its answer does, in
  one transaction with the fork and the events before the question.
- If the request fails or is stopped before any output, no fork is made.

`replay.run` uses it as the `RequestLog` of a replay's first request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import request_events
from openai2.core.projection import View
from openai2.core.request_events import StreamState
from openai2.handle import StoreHandle
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.history.stream_cache import Decide
from openai2.request.effects import Open, Opened
from openai2.store import Transaction


class PendingFork:
    """A fork that is not in the store yet, as the log of its first request.

    *batches* are the events between the fork and the question, one batch a transaction's worth; *view* is
    the view that they make. *conversation* is the fork, empty until the request is answered.
    """

    def __init__(
        self,
        handle: StoreHandle,
        lineage: Lineage,
        forked: ev.Forked,
        batches: Sequence[list[ev.Event]],
        view: View,
    ) -> None:
        self.store = handle.store
        self.id = lineage.conversation
        self.conversation = Conversation(handle, lineage, [forked])
        self._lineage = lineage
        self._batches = [[], *batches]  # the first one appends the fork itself
        self._view = view
        self._opening: list[ev.Event] = []

    def begin_job(self, opening: Open) -> Callable[[Transaction], Opened]:
        """Return the job that decides the start of the request. It writes nothing."""

        def job(tx: Transaction) -> Opened:
            before = [event for batch in self._batches for event in batch]
            self._opening, request = request_events.begin(opening.spec, self._state(len(before)))
            new = {
                self._lineage.base + version: bytes(event.message)
                for version, event in enumerate([*before, *self._opening], 2)
                if isinstance(event, ev.MessageAdded)
            }
            inherited = encoded_messages(tx, self._lineage, [id for id in request.sent if id not in new])
            return opening.set_opened(request, [new.get(id) or inherited[id] for id in request.sent])

        return job

    def end_job(self, request: int, decide: Decide) -> Callable[[Transaction], None]:
        """Return the job that records the fork and its first request, if there is an answer."""

        def job(tx: Transaction) -> None:
            batches = [*self._batches, self._opening]
            closing = decide(self._state(sum(map(len, batches))))
            if not any(isinstance(event, ev.MessageAdded) for event in closing):
                return
            for batch in batches:
                self.conversation.commit_job(partial(_decided, batch))(tx)
            self.conversation.commit_job(decide)(tx)

        return job

    def is_open(self, tx: Transaction, request: int) -> bool:
        """Return True: the start of the request goes on record with its end."""
        return True

    def _state(self, events: int) -> StreamState:
        """Return the state behind the fork and *events* further events."""
        version = 1 + events
        return StreamState(self._view.copy(), version, self._lineage.base + version + 1)


def _decided(batch: list[ev.Event], state: StreamState) -> list[ev.Event]:
    return batch
