"""A conversation: its stream in a store, read as a view and gone on with.

Rules: what is appended is decided inside the transaction that appends it, on the view as it stands
there, so that nobody's round is split and nothing is decided on an old view. What is kept in memory (the
view, the texts of its messages) is a cache of the stream and is brought up to date before it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from openai2.core import decisions, projection, request_events
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.ids import check_name, new_id
from openai2.core.messages import Message, Round
from openai2.core.projection import ROW_OVERHEAD, View, least_tail, pack
from openai2.core.request_events import RequestSpec, StreamState
from openai2.core.typeguards import is_int
from openai2.errors import BadInput, Openai2Error, Refused, UnknownConversation, UnknownVersion
from openai2.history import drafts, views
from openai2.history.lineage import Lineage
from openai2.history.messages import decoded_messages, encoded_messages, events_by_id, last_messages
from openai2.history.requests import last_unanswered, started_request
from openai2.store import NO_HASH, Draft, Reader, Store

if TYPE_CHECKING:
    from openai2.history.fork_graph import Why
    from openai2.request.effects import Open
    from openai2.store import Transaction

Decide = Callable[[StreamState], list[ev.Event]]

_PAGE = 512  # events


class Held(msgspec.Struct, frozen=True):
    """A message in the view: its id, itself, and whether it is pinned."""

    id: int
    message: Message
    pinned: bool


class Conversation:
    """One conversation in a store. Made by `Engine.create`, `Engine.open` and `fork`.

    *birth* are the events that a conversation which is not in the store yet begins with; they are
    appended together with its first others.
    """

    def __init__(self, store: Store, lineage: Lineage, birth: Sequence[ev.Event] = ()) -> None:
        self.store = store
        self.id = lineage.conversation
        self._lineage = lineage
        self._birth = list(birth)
        self._lock = threading.RLock()
        # None where it has to be read yet: what only asks for the version, or appends what any view would
        # let it append, does not wait for one.
        self._view: View | None = None
        self._is_shared = False  # with one that forked from here, or that this one forked from
        self._version = 0
        self._head = NO_HASH.hex()
        self._epoch = -1
        self._texts: dict[int, bytes] = {}
        self._redactions_seen = 0
        self._deleted = False
        self._tail_bytes = 0
        self._worth = least_tail(View())

    def __repr__(self) -> str:
        return f"<Conversation {self.id} at version {self._version} in {self.store!r}>"

    # -- looking

    @property
    def version(self) -> int:
        """The version of the stream's last event; 0 before the first."""
        with self._reading():
            return self._version

    @property
    def head(self) -> str:
        """The hash of the stream's last event, in hex: it commits to all that came before."""
        with self._reading():
            return self._head

    @property
    def name(self) -> str | None:
        """The conversation's name, if it has one."""
        with self._reading() as reader:
            listed = reader.conversation(self.id)
        if listed is None:
            return next((e.name for e in self._birth if isinstance(e, (ev.Created, ev.Forked))), None)
        return listed.name

    def view(self) -> View:
        """The view as it stands: ids, kinds, pins. A copy."""
        with self._reading() as reader:
            return self._standing(reader).copy()

    def messages(self, last: int | None = None) -> list[Message]:
        """The messages that a model would be sent, or the *last* of them, each a dict of one's own."""
        with self._reading() as reader:
            if last is not None and self._view is None and self._version:
                found = last_messages(reader, self._lineage, self._version, last)
                if found is not None:
                    return [msg.decode(raw) for raw in found]
            ids = self._standing(reader).ids
            ids = ids if last is None else ids[-last:] if last > 0 else []
            return self._said(reader, ids)

    def held(self, version: int | None = None) -> list[Held]:
        """The messages of the view, today's or that at *version*, with ids and pins."""
        if version is not None:
            self.check_version(version)
        with self._reading() as reader:
            view = (
                self._standing(reader) if version is None else views.view_at(reader, self._lineage, version)
            )
            said = self._said(reader, view.ids)
            return [
                Held(number, message, number in view.pins)
                for number, message in zip(view.ids, said, strict=True)
            ]

    def at(self, version: int | str | datetime) -> list[Message]:
        """The messages exactly as they stood at *version*, or at a time: see `version_at`.

        Raises UnknownVersion, BadInput for a time that is none.
        """
        if isinstance(version, (str, datetime)):
            version = self.version_at(version)
        self.check_version(version)
        return [held.message for held in self.held(version)]

    def version_at(self, time: str | datetime) -> int:
        """The version that the stream had at a time: a datetime, or a text such as `2026-11-22T10:05`.

        A text that names a day, a minute or a second means its end, and local time unless it says otherwise.
        Raises UnknownVersion where the conversation did not exist yet, BadInput where the text is no time.
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
        """Raise UnknownVersion where the stream has no such version."""
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

    @property
    def is_cached(self) -> bool:
        """Whether going on with it takes no long reading of its past: its view is in memory, and the texts in
        it but for a few, or it is new."""
        if self._birth and not self._version:
            return isinstance(self._birth[0], ev.Created)
        view = self._view
        return view is not None and len(view) - len(self._texts) <= _PAGE and self._epoch == self.store.epoch

    def events(self, after: int = 0) -> Iterator[ev.Recorded]:
        """What happened in this stream, oldest first, from version *after* + 1 on."""
        while True:  # page by page, so that nobody waits for a caller who stops half-way
            with self.store.reading() as reader:
                page = list(reader.events(self.id, after=after, limit=_PAGE))
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].version

    def message(self, number: int) -> Message:
        """The message with that id, in view or not."""
        with self._reading() as reader:
            (raw,) = self._raw(reader, [number])
        return msg.decode(raw)

    def scene(self) -> tuple[list[int], list[ev.RemarkAdded], dict[str, str]]:
        """A group chat as it stands: ids and events of the remarks that no request has used, and roles."""
        with self._reading() as reader:
            view = self._standing(reader)
            ids = list(view.remarks)
            remarks = events_by_id(reader, self._lineage, ids)
            roles = events_by_id(reader, self._lineage, list(view.roles.values()))
        return (
            ids,
            [event for event in remarks if isinstance(event, ev.RemarkAdded)],
            {event.name: event.description or "" for event in roles if isinstance(event, ev.RoleSet)},
        )

    def remarks(self) -> list[ev.RemarkAdded]:
        """A group chat's remarks that no request has used yet."""
        return self.scene()[1]

    def roles(self) -> dict[str, str]:
        """A group chat's roles and their descriptions."""
        return self.scene()[2]

    def why(self) -> list[Why]:
        """For each message ever added: is it in view, and which event put it in or took it out?"""
        from openai2.history import fork_graph

        with self._reading() as reader:
            return fork_graph.why(reader, self._lineage)

    def under(self, limit: int) -> list[Message]:
        """What the messages would be under another limit; nothing is touched. Raises BadInput below 1."""
        from openai2.history import fork_graph

        with self._reading() as reader:
            view = fork_graph.under(self._standing(reader), limit)
            return self._said(reader, view.ids)

    # -- going on

    def commit(self, decide: Decide) -> list[ev.Recorded]:
        """Append what *decide* makes of the state as it stands, all or nothing, and return it."""
        return self.store.transact(self.commit_job(decide))

    def commit_job(self, decide: Decide) -> Callable[[Transaction], list[ev.Recorded]]:
        """Return the job that `commit` runs, to submit it or to run several in one transaction."""
        return lambda tx: self._commit(tx, decide)

    def add(self, messages: Iterable[Any]) -> list[ev.Recorded]:
        """Add messages to the view, all or nothing. Raises NotAMessage."""
        return self.store.transact(self.add_job(messages))

    def add_job(self, messages: Iterable[Any]) -> Callable[[Transaction], list[ev.Recorded]]:
        """Return the job that `add` runs."""
        encoded = msg.encode_all(messages)
        return self.commit_job(lambda state: decisions.add(encoded))

    def pin(self, *indexes: int) -> None:
        """Pin the messages at these indexes. Raises NoIndex (an IndexError)."""
        self.commit(lambda state: decisions.pin(state.view, indexes))

    def unpin(self, *indexes: int) -> None:
        """Unpin the messages at these indexes. Raises NoIndex (an IndexError)."""
        self.commit(lambda state: decisions.unpin(state.view, indexes))

    def rollback(self, n: int = 1) -> Round:
        """Take the last *n* rounds out of the view; the round that is now last."""
        self.commit(lambda state: decisions.rollback(state.view, n))
        return self.last_round()

    def last_round(self) -> Round:
        """The last round of the view; an empty one where there is none."""
        with self._reading() as reader:
            view = self._standing(reader)
            starts = view.round_starts(1)
            ids = view.ids[starts[-1] :] if starts else []
            return Round(msg.decode(raw) for raw in self._raw(reader, ids))

    def restore(self, version: int) -> None:
        """Make the view again what it was at *version*. Raises UnknownVersion."""
        self.check_version(version)
        # Without the view, which is read when somebody asks for it: 40 times less on 20,000 messages.
        self.store.transact(lambda tx: self._put(tx, [ev.Restored(version=version)]))

    def undo(self, n: int = 1) -> int:
        """Undo the last *n* actions that changed the view; how many there were to undo."""
        from openai2.history import undo as undoing

        return self._step(undoing.undo, n)

    def redo(self, n: int = 1) -> int:
        """Redo what the last *n* undos took back; how many there were to redo."""
        from openai2.history import undo as undoing

        return self._step(undoing.redo, n)

    def _step(self, plan: Callable[[Reader, str, int, int], list[ev.Event]], n: int) -> int:
        if not is_int(n, 1):
            raise BadInput("the number of steps is 1 or more, not {n}", n=n)

        def job(tx: Transaction) -> int:
            with self._lock:
                self._catch_up(tx)
                steps = plan(tx, self.id, self._version, n) if self._version else []
                if steps:
                    self._put(tx, steps)
            return len(steps)

        return self.store.transact(job)

    def set_role(self, name: str, description: str | None) -> None:
        """Describe a group chat's role; None takes it away."""
        self.commit(lambda state: [ev.RoleSet(name=name, description=description)])

    def rename(self, name: str | None) -> None:
        """Give the conversation another name, or none. Raises NameTaken, BadInput."""
        check_name(name)
        self.commit(lambda state: [ev.Renamed(name=name)])

    def archive(self, archived: bool = True) -> None:
        """Put the conversation away, or take it out again."""

        def decide(state: StreamState) -> list[ev.Event]:
            return [ev.Archived() if archived else ev.Unarchived()]

        listed = self.listed()
        if listed is None or listed.archived != archived:
            self.commit(decide)

    def listed(self) -> Any:
        """The conversation's line in the list, None before its first event."""
        with self.store.reading() as reader:
            return reader.conversation(self.id)

    def configure(self, model: str | None = None, limit: int | None = None) -> None:
        """Note the command's settings for this conversation, if they are news."""
        decisions.check_text(model, "the model")
        known = self.settings()
        if (model or known.model) != known.model or (limit or known.limit) != known.limit:
            self.commit(lambda state: [ev.Configured(model=model, limit=limit)])

    def settings(self) -> ev.Configured:
        """The command's settings for this conversation, as they were last noted."""
        model: str | None = None
        limit: int | None = None
        with self.store.reading() as reader:
            for record in reader.events(self.id, types=("configured",), newest_first=True):
                event = record.event
                assert isinstance(event, ev.Configured)
                model, limit = model or event.model, limit or event.limit
                if model and limit:
                    break
        return ev.Configured(model=model, limit=limit)

    def fork(self, name: str | None = None, at: int | None = None, reason: str | None = None) -> Conversation:
        """A new conversation that shares this one's first *at* events (all of them where None).

        Costs one event, however long the history. Raises UnknownVersion, NameTaken.
        """
        check_name(name)
        decisions.check_text(reason, "a reason")
        if self._birth and not self.version:
            self.store.transact(lambda tx: self._put(tx, []))
        version = self.version if at is None else at
        self.check_version(version)
        lineage = self._lineage.fork(new_id(), version)
        event = ev.Forked(parent=self.id, version=version, base=lineage.base, name=name, reason=reason)
        twin = Conversation(self.store, lineage, [event])
        self.store.transact(lambda tx: twin._put(tx, []))
        twin._begin_with_view_of(self, version)
        return twin

    def _begin_with_view_of(self, parent: Conversation, version: int) -> None:
        """Spare a fork the reading of its view where the parent's, at that version, is in memory."""
        with parent._lock:
            if parent._view is not None and (parent._version, parent._epoch) == (version, self.store.epoch):
                self._view = parent._view
                self._is_shared = parent._is_shared = True

    # -- requests

    def begin(self, opening: Open) -> None:
        """Put a request on record, and its draft; *opening* is told what is to be sent."""
        try:
            self.store.transact(self.begin_job(opening))
        except Exception:
            opening.opened = None  # it is not on record, and nothing is to be closed
            raise
        except BaseException:  # Ctrl-C, before or after the commit
            if opening.opened is not None and not self._is_open(opening.opened.begun.request):
                opening.opened = None
            raise

    def _is_open(self, request: int) -> bool:
        with self.store.reading() as reader:
            return any(draft.request == request for draft in reader.drafts(self.id))

    def begin_job(self, opening: Open) -> Callable[[Transaction], None]:
        """Return the job that records the start of a request."""

        def job(tx: Transaction) -> None:
            with self._lock:
                begun: request_events.OpenRequest | None = None

                def decide(state: StreamState) -> list[ev.Event]:
                    nonlocal begun
                    ask = self._ask_again(tx, state, opening.ask) if opening.ask.retry else opening.ask
                    events, begun = request_events.begin(ask, state)
                    return events

                self._commit(tx, decide)
                assert begun is not None
                tx.put_draft(drafts.fresh(self.id, begun.request))
                raw = self._raw(tx, begun.sent)
                opening.be(begun, raw)

        return job

    def _ask_again(self, tx: Transaction, state: StreamState, ask: RequestSpec) -> RequestSpec:
        """A retry: of the last question that got no answer, else of the last that did."""
        unanswered = last_unanswered(tx, self.id, self._lineage.base)
        if unanswered is None:
            return ask
        started, question = unanswered
        standing = set(state.view.ids)
        again = [(number, kind) for number, kind in question if number not in standing]
        return msgspec.structs.replace(ask, again=again, retry=started.retry)

    def end(self, request: int, decide: Decide) -> None:
        """Put on record how a request ended, and forget its draft."""
        self.store.transact(self.end_job(request, decide))

    def end_job(self, request: int, decide: Decide) -> Callable[[Transaction], None]:
        """Return the job that records the end of a request and drops its draft."""

        def job(tx: Transaction) -> None:
            self._commit(tx, decide)
            tx.drop_draft(self.id, request)

        return job

    def interrupted(self) -> list[Draft]:
        """Requests that were cut off: their writer is gone, and nobody has closed them yet."""
        with self.store.reading() as reader:
            return [draft for draft in reader.drafts(self.id) if not drafts.alive(draft)]

    def keep(self, draft: Draft) -> None:
        """Let what had come of a cut answer join the view, marked as stopped."""
        self._close(draft, keep=True)

    def drop(self, draft: Draft) -> None:
        """Put on record that a cut request failed; what had come stays in the log."""
        self._close(draft, keep=False)

    def _close(self, draft: Draft, keep: bool) -> None:
        def job(tx: Transaction) -> None:
            if not tx.drop_draft(self.id, draft.request):
                raise Refused("request {request} was closed meanwhile", request=draft.request)

            def decide(state: StreamState) -> list[ev.Event]:
                started, question = started_request(tx, self.id, self._lineage.base, draft.request)
                asked_on = views.view_at(tx, self._lineage, started.view)
                begun = request_events.recovered(draft.request, started, question, asked_on)
                if keep:
                    return request_events.stopped(
                        begun, state, draft.partial, ev.Answer(), reason="recovered"
                    )
                fault = request_events.RequestError("Interrupted", "the program ended before the answer did")
                return request_events.failed(begun, draft.partial, ev.Answer(), fault)

            self._commit(tx, decide)

        self.store.transact(job)

    # -- inside

    class _Looking:
        """A reader of the store and this conversation's lock, the cache brought up to date."""

        def __init__(self, conversation: Conversation) -> None:
            self._conversation = conversation
            self._reader = conversation.store.reading()

        def __enter__(self) -> Reader:
            reader = self._reader.__enter__()
            self._conversation._lock.acquire()
            try:
                self._conversation._catch_up(reader)
            except BaseException as error:
                self._conversation._lock.release()
                self._reader.__exit__(type(error), error, error.__traceback__)
                raise
            return reader

        def __exit__(self, *exc: Any) -> None:
            self._conversation._lock.release()
            self._reader.__exit__(*exc)

    def _reading(self) -> _Looking:
        return Conversation._Looking(self)

    def _catch_up(self, reader: Reader) -> None:
        """Bring view and texts to the last event that *reader* sees.

        That can be one before ours: what a transaction has appended is nobody else's until it is
        committed, and until then may yet come to nothing.
        """
        epoch = self.store.epoch
        version, link = reader.head(self.id)
        if self._epoch != epoch or version < self._version or (version and not self._version):
            self._texts.clear()
            self._view, self._epoch = None, epoch
            self._version, self._head = version, link.hex()
            self._deleted = version > 0 and reader.is_deleted(self.id)
        elif version > self._version:
            for record in reader.events(self.id, after=self._version, upto=version):
                self._fold(record, record.event)
                self._forget_texts()
        if self._deleted:
            what = "there is no conversation {reference}: it was deleted"
            raise UnknownConversation(what, reference=self.id)
        if self._lineage.base:
            self._forget_what_ancestors_lost(reader)

    def _forget_what_ancestors_lost(self, reader: Reader) -> None:
        """A redaction in a stream that this one forked from is in none of this one's events."""
        from openai2.store import erase

        last = reader.cursor(erase.CURSOR)
        if last != self._redactions_seen:
            self._texts.clear()
            self._redactions_seen = last

    def _standing(self, reader: Reader) -> View:
        """The view at our version."""
        if self._view is None:
            if self._version:
                self._view, self._tail_bytes = views.load(reader, self._lineage, self._version)
            elif self._birth and isinstance(self._birth[0], ev.Forked):
                self._view = views.inherited(reader, self._lineage)
            else:
                self._view = View()
        return self._view

    def _fold(self, record: ev.Recorded, event: ev.Event) -> None:
        number = self._lineage.base + record.version
        if isinstance(event, ev.MessageAdded):
            if self._view is not None:  # without it, nobody could tell which are in use still
                self._texts[number] = bytes(event.message)
        elif isinstance(event, ev.Redacted):
            self._texts.pop(self._lineage.base + event.version, None)
        elif isinstance(event, ev.Deleted):
            self._deleted = True
        if isinstance(event, (ev.Restored, ev.Forked)):
            self._view = None
        elif self._view is not None:
            if self._is_shared:
                self._view, self._is_shared = self._view.copy(), False
            self._view.apply(event, number)
        self._version, self._head = record.version, record.hash
        self._tail_bytes += len(record.json) + ROW_OVERHEAD

    def _forget_texts(self) -> None:
        """Let go of the texts that are not in view, once they are more than those that are."""
        if self._view is not None and len(self._texts) > 2 * len(self._view.ids) + 64:
            held = set(self._view.ids)
            self._texts = {number: raw for number, raw in self._texts.items() if number in held}

    def _commit(self, tx: Transaction, decide: Decide) -> list[ev.Recorded]:
        """Append what *decide* makes of the state."""
        with self._lock:
            self._catch_up(tx)
            version = self._version or len(self._birth)
            state = StreamState(self._standing(tx), version, self._lineage.base + version + 1)
            return self._append(tx, decide(state))

    def _put(self, tx: Transaction, events: list[ev.Event]) -> list[ev.Recorded]:
        """Append *events*, whatever the view."""
        with self._lock:
            self._catch_up(tx)
            return self._append(tx, events)

    def _append(self, tx: Transaction, events: list[ev.Event]) -> list[ev.Recorded]:
        if not self._version:
            events = [*self._birth, *events]
        if not events:
            return []
        records = tx.append(self.id, self._version, events)
        for record, event in zip(records, events, strict=True):
            self._fold(record, event)
        self._forget_texts()
        self._save_snapshot(tx)
        return records

    def _save_snapshot(self, tx: Transaction) -> None:
        # A view that nobody has read yet is read for this once what lies behind the last snapshot is more
        # than twice what the last view known would have been worth.
        if self._view is None and self._tail_bytes > 2 * self._worth:
            self._standing(tx)
        if self._view is None or self._tail_bytes < projection.LEAST_TAIL:
            return
        self._worth = least_tail(self._view)
        if self._tail_bytes < self._worth:
            return
        tx.put_snapshot(self.id, self._version, pack(self._view))
        self._tail_bytes = 0

    def _said(self, reader: Reader, ids: Sequence[int]) -> list[Message]:
        """The messages with these ids, each a dict of one's own.

        Many that are in no memory yet are not kept there either: whoever looks at a long view is rarely
        the one who goes on with it, and a request keeps what it has sent.
        """
        missing = [number for number in ids if number not in self._texts]
        if len(missing) <= _PAGE:
            return [msg.decode(raw) for raw in self._raw(reader, ids)]
        found = decoded_messages(reader, self._lineage, missing)
        if len(missing) < len(ids):
            found.update((number, msg.decode(raw)) for number in ids if (raw := self._texts.get(number)))
        try:
            return [found[number] for number in ids]
        except KeyError as gone:
            raise _no_message(self.id, gone.args[0]) from None

    def _raw(self, reader: Reader, ids: Sequence[int]) -> list[bytes]:
        held = self._texts
        missing = [number for number in ids if number not in held]
        if missing:
            found = encoded_messages(reader, self._lineage, missing)
            if self._view is not None and len(missing) <= 2 * len(self._view) + 64:
                held.update(found)
            else:
                held = {**held, **found}
        try:
            return [held[number] for number in ids]
        except KeyError as gone:
            raise _no_message(self.id, gone.args[0]) from None


def _no_message(conversation: str, number: int) -> Openai2Error:
    what = "conversation {conversation} has no message {message}"
    return Openai2Error(what, conversation=conversation, message=number)
