"""One conversation: a stream of events in a store, read as a view and appended to.

Invariants:
- Every change is decided inside the transaction that appends it, on the current view. So no two rounds
  interleave and no decision rests on an old view.
- What is cached in memory (`history.stream_cache`) is brought up to date before every use.

Made by `Engine`; `drivers` runs requests on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from openai2.core import decisions, request_events
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.ids import check_name, new_id
from openai2.core.messages import Message, Round
from openai2.core.projection import View
from openai2.core.request_events import RequestSpec, StreamState
from openai2.core.typeguards import is_int
from openai2.errors import BadInput, Refused, UnknownVersion
from openai2.handle import StoreHandle
from openai2.history import drafts, views
from openai2.history.lineage import Lineage
from openai2.history.messages import PAGE, events_by_id
from openai2.history.requests import (
    last_unanswered,
    question_out_of_view,
    started_request,
    used_remarks,
)
from openai2.history.stream_cache import Decide, StreamCache
from openai2.store import Draft, Listed, Reader

if TYPE_CHECKING:
    from openai2.history.why import Why
    from openai2.request.effects import Open, Opened
    from openai2.store import Transaction


class ViewMessage(msgspec.Struct, frozen=True):
    """A message in a view, with its id and whether it is pinned."""

    id: int
    message: Message
    pinned: bool


class GroupState(NamedTuple):
    """A group chat: the remarks that no request has used yet, with their ids, and the roles by name."""

    remark_ids: list[int]
    remarks: list[ev.RemarkAdded]
    roles: dict[str, str]


class Conversation:
    """One conversation in a store. Made by `Engine.create`, `Engine.open` and `fork`.

    *birth* are the first events of a conversation that is not in the store yet; they are appended together
    with its next events.
    """

    def __init__(self, handle: StoreHandle, lineage: Lineage, birth: Sequence[ev.Event] = ()) -> None:
        self.handle = handle
        self.store = store = handle.store
        self.id = lineage.conversation
        self.lineage = lineage
        self._stream = StreamCache(store, lineage, birth)

    def __repr__(self) -> str:
        return f"<Conversation {self.id} at version {self._stream.version} in {self.store!r}>"

    # -- reading

    @property
    def version(self) -> int:
        """The version of the stream's last event; 0 before the first."""
        with self._stream.reading():
            return self._stream.version

    @property
    def head(self) -> str:
        """The hash of the stream's last event, in hex: it commits to all events before it."""
        with self._stream.reading():
            return self._stream.head

    @property
    def name(self) -> str | None:
        """The conversation's name, None if it has none."""
        with self._stream.reading() as reader:
            listed = reader.conversation(self.id)
        if listed is None:
            births = self._stream.birth
            return next((event.name for event in births if isinstance(event, (ev.Created, ev.Forked))), None)
        return listed.name

    def view(self) -> View:
        """Return a copy of the current view: ids, kinds, pins."""
        with self._stream.reading() as reader:
            return self._stream.view(reader).copy()

    def messages(self, last: int | None = None) -> list[Message]:
        """Return the messages of the view, or the *last* of them, each a new dict."""
        with self._stream.reading() as reader:
            if last is not None:
                return self._stream.last_messages(reader, last)
            return self._stream.messages(reader, self._stream.view(reader).ids)

    def view_messages(self, version: int | None = None) -> list[ViewMessage]:
        """Return the messages of the current view, or of that at *version*, with ids and pins."""
        if version is not None:
            self.check_version(version)
        with self._stream.reading() as reader:
            if version is None:
                view = self._stream.view(reader)
            else:
                view = views.view_at(reader, self.lineage, version)
            messages = self._stream.messages(reader, view.ids)
            return [
                ViewMessage(number, message, number in view.pins)
                for number, message in zip(view.ids, messages, strict=True)
            ]

    def at(self, version: int | str | datetime) -> list[Message]:
        """Return the messages of the view at *version*, or at a time as in `version_at`.

        Raises UnknownVersion, BadInput for a time that cannot be parsed.
        """
        if isinstance(version, (str, datetime)):
            version = self.version_at(version)
        if self._is_start(version):
            return []
        self.check_version(version)
        return [item.message for item in self.view_messages(version)]

    def version_at(self, time: str | datetime) -> int:
        """Return the version that the stream had at a time: a datetime, or a text like `2026-11-22T10:05`.

        A text that names a day, minute or second means its end. Times without an offset are local. Raises
        UnknownVersion if the conversation did not exist yet, BadInput if the text cannot be parsed.
        """
        from openai2.core import times

        when = times.stamp(time) if isinstance(time, datetime) else times.moment(time)
        with self.store.reading() as reader:
            version = reader.version_at(self.id, when)
        if version < 1:
            raise UnknownVersion(
                "conversation {conversation} did not exist yet at {time}", conversation=self.id, time=time
            )
        return version

    def check_version(self, version: int) -> None:
        """Raise UnknownVersion if the stream has no such version."""
        last = self.version
        if not is_int(version, 1) or version > last:
            raise UnknownVersion(
                "conversation {conversation} has no version {version}: versions go from 1 to {last}"
                if last
                else "conversation {conversation} has no version {version}: nothing has happened in it yet",
                conversation=self.id,
                version=version,
                last=last,
            )

    def _is_start(self, version: object) -> bool:
        """Return True if *version* is 0, the empty view before the first event, and this is not a fork."""
        return is_int(version, 0) and version == 0 and not self.lineage.base

    def events(self, after: int = 0) -> Iterator[ev.Recorded]:
        """Yield the events of this stream, oldest first, from version *after* + 1 on."""
        while True:  # page by page: no transaction is open while the caller handles an event
            with self.store.reading() as reader:
                page = list(reader.events(self.id, after=after, limit=PAGE))
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].version

    def message(self, number: int) -> Message:
        """Return the message with that id, in view or not. Raises Openai2Error if there is none."""
        with self._stream.reading() as reader:
            (raw,) = self._stream.encoded(reader, [number])
        return msg.decode(raw)

    def group_state(self) -> GroupState:
        """Return the unused remarks and the roles of a group chat, from one view."""
        with self._stream.reading() as reader:
            view = self._stream.view(reader)
            remark_ids = list(view.remarks)
            remarks = events_by_id(reader, self.lineage, remark_ids)
            roles = events_by_id(reader, self.lineage, list(view.roles.values()))
        return GroupState(
            remark_ids,
            [event for event in remarks if isinstance(event, ev.RemarkAdded)],
            {event.name: event.description or "" for event in roles if isinstance(event, ev.RoleSet)},
        )

    def remarks(self) -> list[ev.RemarkAdded]:
        """Return a group chat's remarks that no request has used yet."""
        return self.group_state().remarks

    def roles(self) -> dict[str, str]:
        """Return a group chat's roles: descriptions by name."""
        return self.group_state().roles

    def why(self) -> list[Why]:
        """Return, for each message ever added, if it is in view and which events put it in or took it out."""
        from openai2.history import why

        with self._stream.reading() as reader:
            return why.why(reader, self.lineage)

    def with_limit(self, limit: int) -> list[Message]:
        """Return the messages that another limit would leave in view. Changes nothing. Raises BadInput."""
        from openai2.history import why

        with self._stream.reading() as reader:
            view = why.with_limit(self._stream.view(reader), limit)
            return self._stream.messages(reader, view.ids)

    def last_round(self) -> Round:
        """Return the last round of the view, an empty one if there is none."""
        with self._stream.reading() as reader:
            view = self._stream.view(reader)
            starts = view.round_starts(1)
            ids = view.ids[starts[-1] :] if starts else []
            return Round(msg.decode(raw) for raw in self._stream.encoded(reader, ids))

    def listed(self) -> Listed | None:
        """Return the conversation's row in the list, None before its first event."""
        with self.store.reading() as reader:
            return reader.conversation(self.id)

    def settings(self) -> ev.Configured:
        """Return the command's settings for this conversation, as last recorded; a limit of 0 means none."""
        model: str | None = None
        limit: int | None = None
        with self.store.reading() as reader:
            for record in reader.events(self.id, types=("configured",), newest_first=True):
                event = record.event
                assert isinstance(event, ev.Configured)
                model, limit = model or event.model, event.limit if limit is None else limit
                if model and limit is not None:
                    break
        return ev.Configured(model=model, limit=limit)

    # -- changing

    def commit(self, decide: Decide) -> list[ev.Recorded]:
        """Append the events that *decide* returns for the current state, all or nothing; return them."""
        return self.store.transact(self.commit_job(decide))

    def commit_job(self, decide: Decide) -> Callable[[Transaction], list[ev.Recorded]]:
        """Return the job that `commit` runs, to submit it or to run several in one transaction."""
        return lambda tx: self._stream.commit(tx, decide)

    def add(self, messages: Iterable[Any], limit: int | None = None) -> list[ev.Recorded]:
        """Add messages to the view, and truncate it to *limit*, all or nothing.

        Raises NotAMessage, NoRoom.
        """
        return self.store.transact(self.add_job(messages, limit))

    def add_job(
        self, messages: Iterable[Any], limit: int | None = None
    ) -> Callable[[Transaction], list[ev.Recorded]]:
        """Return the job that `add` runs."""
        limit = decisions.check_limit(limit)
        encoded = msg.encode_all(messages)
        return self.commit_job(lambda state: decisions.add_within(limit, state.view, state.next_id, encoded))

    def pin(self, *indexes: int) -> None:
        """Pin the messages at these indexes. Raises NoIndex (an IndexError)."""
        self.commit(lambda state: decisions.pin(state.view, indexes))

    def unpin(self, *indexes: int) -> None:
        """Unpin the messages at these indexes. Raises NoIndex (an IndexError)."""
        self.commit(lambda state: decisions.unpin(state.view, indexes))

    def rollback(self, n: int = 1) -> Round:
        """Take the last *n* rounds out of the view, and return the round that is then the last.

        The remarks of a group chat that they had used wait for the next request again.
        """

        def job(tx: Transaction) -> None:
            def decide(state: StreamState) -> list[ev.Event]:
                events = decisions.rollback(state.view, n)
                if not events:
                    return []
                removed = state.view.copy().remove(events[0].spans)
                remarks = used_remarks(tx, self.lineage, removed)
                return [msgspec.structs.replace(event, remarks=remarks) for event in events]

            self._stream.commit(tx, decide)

        self.store.transact(job)
        return self.last_round()

    def restore(self, version: int) -> None:
        """Make the view again what it was at *version*. Raises UnknownVersion."""
        if self._is_start(version):
            version = min(self.version, 1)
            if not version:
                return
        self.check_version(version)
        # Appended without loading the view: 40 times faster on 20,000 messages.
        self._append([ev.Restored(version=version)])

    def undo(self, n: int = 1) -> int:
        """Undo the last *n* actions that changed the view, and return how many were undone."""
        from openai2.history import undo

        return self._step(undo.undo, n)

    def redo(self, n: int = 1) -> int:
        """Redo what the last *n* undos took back, and return how many were redone."""
        from openai2.history import undo

        return self._step(undo.redo, n)

    def _step(self, plan: Callable[[Reader, str, int, int], list[ev.Event]], n: int) -> int:
        if not is_int(n, 1):
            raise BadInput("expected a number of steps of 1 or more, got {n}", n=n)

        def job(tx: Transaction) -> int:
            with self._stream.lock:
                self._stream.catch_up(tx)
                version = self._stream.version
                steps = plan(tx, self.id, version, n) if version else []
                if steps:
                    self._stream.append(tx, steps)
            return len(steps)

        return self.store.transact(job)

    def set_role(self, name: str, description: str | None) -> None:
        """Describe a group chat's role; None removes the role."""
        self._append([ev.RoleSet(name=name, description=description)])

    def rename(self, name: str | None) -> None:
        """Give the conversation another name, or none. Raises NameTaken, BadInput."""
        check_name(name)
        self._append([ev.Renamed(name=name)])

    def archive(self, archived: bool = True) -> None:
        """Hide the conversation from the list, or show it again."""
        listed = self.listed()
        if listed is None or listed.archived != archived:
            self._append([ev.Archived() if archived else ev.Unarchived()])

    def configure(self, model: str | None = None, limit: int | None = None) -> None:
        """Record the command's settings for this conversation if they changed; a *limit* of 0 removes it.

        Raises BadInput.
        """
        decisions.check_text(model, "the model")
        decisions.check_limit(limit or None)
        known = self.settings()
        if (model or known.model) != known.model or (limit is not None and limit != (known.limit or 0)):
            self._append([ev.Configured(model=model, limit=limit)])

    def fork(self, name: str | None = None, at: int | None = None, reason: str | None = None) -> Conversation:
        """Make a conversation that shares this one's first *at* events (None: all of them).

        Costs one event, however long the history is. Raises UnknownVersion, NameTaken, BadInput.
        """
        check_name(name)
        decisions.check_text(reason, "a reason")
        if self._stream.birth and not self.version:
            self._append([])
        version = self.version if at is None else 1 if self._is_start(at) else at
        self.check_version(version)
        lineage = self.lineage.fork(new_id(), version)
        event = ev.Forked(parent=self.id, version=version, base=lineage.base, name=name, reason=reason)
        fork = Conversation(self.handle, lineage, [event])
        fork._append([])
        fork._stream.adopt_view(self._stream, version)
        return fork

    def _append(self, events: list[ev.Event]) -> None:
        self.store.transact(lambda tx: self._stream.append(tx, events))

    # -- requests

    def begin_job(self, opening: Open) -> Callable[[Transaction], Opened]:
        """Return the job that records the start of a request and its draft."""

        def job(tx: Transaction) -> Opened:
            with self._stream.lock:
                begun: request_events.OpenRequest | None = None

                def decide(state: StreamState) -> list[ev.Event]:
                    nonlocal begun
                    ask = self._retried(tx, state, opening.spec) if opening.spec.retry else opening.spec
                    events, begun = request_events.begin(ask, state)
                    return events

                self._stream.commit(tx, decide)
                assert begun is not None
                tx.put_draft(drafts.fresh(self.id, begun.request, self.store.is_durable))
                return opening.set_opened(begun, self._stream.encoded(tx, begun.sent))

        return job

    def _retried(self, tx: Transaction, state: StreamState, ask: RequestSpec) -> RequestSpec:
        """Return *ask* with the recorded question that it asks again, unless the view holds it.

        That is the question of the last request if it is unanswered, else the one of the last answer.
        """
        unanswered = last_unanswered(tx, self.lineage)
        if unanswered is None or unanswered.event.retry:
            again = question_out_of_view(tx, self.lineage, state.view)
            return msgspec.structs.replace(ask, again=again)
        in_view = set(state.view.ids)
        again = [(number, kind) for number, kind in unanswered.question if number not in in_view]
        # The unused remarks from before the question are in its text.
        remarks = [remark for remark in state.view.remarks if again and remark < again[0][0]]
        return msgspec.structs.replace(ask, again=again, retry=False, remarks=remarks)

    def end_job(self, request: int, decide: Decide) -> Callable[[Transaction], None]:
        """Return the job that records the end of a request and drops its draft."""

        def job(tx: Transaction) -> None:
            self._stream.commit(tx, decide)
            tx.drop_draft(self.id, request)

        return job

    def is_open(self, tx: Transaction, request: int) -> bool:
        """Return True if the start of the request is on record, and its end is not."""
        return any(draft.request == request for draft in tx.drafts(self.id))

    def interrupted(self) -> list[Draft]:
        """Return the drafts of requests that are still open although their process is gone."""
        with self.store.reading() as reader:
            return [draft for draft in reader.drafts(self.id) if not drafts.is_alive(draft)]

    def keep(self, draft: Draft) -> None:
        """Add the partial answer of an interrupted request to the view, marked stopped.

        Raises Refused if the request is closed already, or if the answer, now on record, could not join the
        view.
        """
        refusal = self._close(draft, keep=True)
        if refusal is not None:
            raise refusal

    def drop(self, draft: Draft) -> None:
        """Record an interrupted request as failed; its partial answer stays in the log. Raises Refused."""
        self._close(draft, keep=False)

    def _close(self, draft: Draft, keep: bool) -> Refused | None:
        """Close an interrupted request; return why its partial answer did not join the view, if so."""

        def job(tx: Transaction) -> Refused | None:
            refusal: Refused | None = None
            if not tx.drop_draft(self.id, draft.request):
                raise Refused("request {request} is already closed", request=draft.request)
            partial = draft.partial if draft.partial is None or msg.is_message(draft.partial) else None

            def decide(state: StreamState) -> list[ev.Event]:
                nonlocal refusal
                started, question = started_request(tx, self.lineage, draft.request)
                asked_on = views.view_at(tx, self.lineage, started.view)
                begun = request_events.recovered(draft.request, started, question, asked_on)
                if keep:
                    events = request_events.stopped(begun, state, partial, ev.Answer(), "recovered")
                    refusal = request_events.refusal(events, state)
                    return events
                fault = request_events.RequestError("Interrupted", "the program ended before the answer did")
                return request_events.failed(begun, partial, ev.Answer(), fault)

            self._stream.commit(tx, decide)
            return refusal

        return self.store.transact(job)
