"""Replays: every question of a dialogue asked again, on a fork, of another model say.

Rules: `replay_plan` says what happens next; here it is read and put on record. A fork becomes visible
together with its first answer, in one transaction: so a model that does not exist, a key that does not
pay or a server that is not there is found before anything is made, at no cost and without an endpoint
that not every server has. From then on each step is durable before the next one; a replay that is stopped
or fails has lost nothing, and the same call again goes on with what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core.ids import check_name, new_id
from openai2.core.request_events import RequestSpec, StreamState
from openai2.core.typeguards import is_int
from openai2.errors import BadInput, NameTaken, Refused
from openai2.history import drafts
from openai2.history.lineage import Lineage
from openai2.replay.pending_fork import PendingFork
from openai2.replay.plan import Branch
from openai2.replay.source import Source, Told
from openai2.store import Reader

if TYPE_CHECKING:
    from openai2.engine import Engine


class Replayed(NamedTuple):
    """What became of one of many replays: the id of its fork (None where nothing was made), how many
    questions were asked now, how many are missing still (None: not known), and what stopped it."""

    source: str
    model: str | None
    conversation: str | None
    asked: int
    missing: int | None
    error: Exception | None = None


class Progress(NamedTuple):
    """How far many replays are: replays done, of so many, and the one that has just gone on."""

    done: int
    total: int
    latest: Replayed


class Many:
    """Many replays: how many at a time, and who is told."""

    def __init__(self, jobs: int, total: int, progress: Callable[[Progress], object] | None) -> None:
        if not is_int(jobs, 1):
            raise BadInput("the number of jobs is 1 or more, not {jobs}", jobs=jobs)
        self.free = asyncio.Semaphore(jobs)
        self._done = 0
        self._total = total
        self._progress = progress

    def went_on(self, latest: Replayed) -> None:
        """One of them has another answer."""
        if self._progress is not None:
            self._progress(Progress(self._done, self._total, latest))

    def ended(self, latest: Replayed) -> Replayed:
        """One of them is at its end."""
        self._done += 1
        self.went_on(latest)
        return latest


def choose(engine: Engine, conversations: Iterable[str | Conversation] | None) -> list[Conversation]:
    """The conversations to replay; None: all that are not archived, no replays, and hold a question."""
    if conversations is not None:
        return [engine.open(one) if isinstance(one, str) else one for one in conversations]
    every = [engine.open(listed.id) for listed in reversed(engine.conversations())]
    with engine.store.reading() as reader:
        asked = {record.conversation for record in reader.events_of_types(("request_started",))}
        replays = {
            record.conversation
            for record in reader.events_of_types(("forked",))
            if isinstance(event := record.event, ev.Forked) and event.replay is not None
        }
    return [one for one in every if one.id in asked and one.id not in replays]


class Wish(NamedTuple):
    """What a caller wants replayed: from which version on, and what is to be other than it was."""

    model: str | None = None
    system: str | None = None
    at: int | None = None
    name: str | None = None
    options: Mapping[str, Any] = {}


class Replaying:
    """One replay on its way: made anew, or found where it stopped.

    *recorded* are the wish's options as they go on record. Raises UnknownVersion, NameTaken, BadInput,
    and Refused where there is nothing to ask, or where somebody else is at it.
    """

    def __init__(
        self, engine: Engine, source: Conversation, wish: Wish, recorded: dict[str, Any] | None = None
    ) -> None:
        check_name(wish.name)
        if wish.system is not None and not wish.system.strip():
            raise BadInput("the new system message is empty: say something, or leave it out")
        if wish.at is not None:
            source.check_version(wish.at)
        self.wish = wish
        self.source = source
        self._store = engine.store
        with self._store.reading() as reader:
            lineage = Lineage.read(reader, source.id)
            start = 1 if wish.at is None else max(1, lineage.base + wish.at - 1)
            told = list(_told(reader, lineage))
            while start > 1 and _is_asking(told[start - 1].event):
                start -= 1  # a question that is asked again is asked on the view before it
            self._plan = Source(told, start)
            parent, version = lineage.place(start)
        self._replay = ev.Replay(
            source=source.id, start=start, model=wish.model, system=wish.system, options=recorded or {}
        )
        if not self._plan.steps:
            raise Refused("conversation {conversation} has no question to ask again", conversation=source.id)
        found = self._found(engine, parent)
        self._newborn = None
        if found is None:
            with self._store.reading() as reader:
                self._newborn = self._born(Lineage.read(reader, parent), version)
        self.conversation = found or self._newborn or source
        self._close_what_was_cut()
        recorded_events = [record.event for record in self.conversation.events()]
        self._branch = Branch(self._plan, wish.system, recorded_events)
        self.answered = self._branch.asked

    @property
    def exists(self) -> bool:
        """Whether the fork is there."""
        return self._newborn is None or self._newborn.born

    @property
    def missing(self) -> int:
        """How many questions are still to be asked."""
        return self._branch.missing

    def told(self, answered: RequestSpec | None = None) -> Replayed:
        """How far it is; *answered* is what was asked last, where `asks` has not gone on yet."""
        if answered is not None:
            self._catch_up()
        return Replayed(
            source=self.source.id,
            model=self.wish.model,
            conversation=self.conversation.id if self.exists else None,
            asked=self._branch.asked - self.answered,
            missing=self.missing,
        )

    def asks(self) -> Iterator[RequestSpec]:
        """What to ask of the branch, one after the other; whatever lies between happens by itself."""
        while (step := self._next()) is not None:
            if isinstance(step, RequestSpec):
                yield step
                self._catch_up()
            else:
                self._append(step)

    async def async_asks(self) -> AsyncIterator[RequestSpec]:
        """`asks`, awaited."""
        while (step := await asyncio.to_thread(self._next)) is not None:
            if isinstance(step, RequestSpec):
                yield step
                await asyncio.to_thread(self._catch_up)
            else:
                await asyncio.to_thread(self._append, step)

    # -- inside

    def _found(self, engine: Engine, parent: str) -> Conversation | None:
        """The replay that this one goes on with: the one so named, else the latest of the same words."""
        if self.wish.name is not None:
            with self._store.reading() as reader:
                known = reader.named(self.wish.name)
            candidates = [] if known is None else [known.id]
        else:
            candidates = [child.id for child in reversed(engine.children(parent))]
        for candidate in candidates:
            conversation = engine.open(candidate)
            first = next(conversation.events()).event
            if isinstance(first, ev.Forked) and first.replay == self._replay:
                return conversation
            if self.wish.name is not None:
                raise NameTaken(
                    "there is a conversation named {name} already, and it is another one",
                    name=self.wish.name,
                    conversation=candidate,
                )
        return None

    def _born(self, parent: Lineage, version: int) -> PendingFork:
        lineage = parent.fork(new_id(), version)
        forked = ev.Forked(
            parent=parent.conversation,
            version=version,
            base=lineage.base,
            name=self.wish.name,
            reason="replay",
            replay=self._replay,
        )
        return PendingFork(self._store, lineage, forked)

    def _close_what_was_cut(self) -> None:
        """Answers that a crash cut off count as failed, and are asked again."""
        with self._store.reading() as reader:
            cut = list(reader.drafts(self.conversation.id))
        for draft in cut:
            if drafts.is_alive(draft):
                raise Refused(
                    "somebody is at work on the replay {conversation}", conversation=self.conversation.id
                )
            self.conversation.drop(draft)

    def _next(self) -> list[ev.Event] | RequestSpec | None:
        if self._newborn is not None and not self._newborn.born:
            return self._first()
        step = self._branch.next()
        if isinstance(step, RequestSpec):
            options = {**step.options, **self.wish.options}
            step = msgspec.structs.replace(step, model=self.wish.model or step.model, options=options)
        return step

    def _append(self, events: list[ev.Event]) -> None:
        expected = self._branch.version - len(events)

        def decide(state: StreamState) -> list[ev.Event]:
            if state.version != expected:
                raise Refused(
                    "conversation {conversation} went on while it was replayed",
                    conversation=self.conversation.id,
                )
            return events

        self.conversation.commit(decide)

    def _catch_up(self) -> None:
        for record in self.conversation.events(after=self._branch.version):
            self._branch.apply(record.version, record.event)

    def _first(self) -> RequestSpec:
        """All that comes before the first question is kept for its answer."""
        newborn = self._newborn
        assert newborn is not None
        branch = Branch(self._plan, self.wish.system, [newborn.forked])
        batches: list[list[ev.Event]] = []
        if setup := branch.setup():
            for event in setup:
                branch.apply(branch.version + 1, event)
            batches.append(setup)
        while not isinstance(step := branch.next(), RequestSpec):
            assert step is not None
            batches.append(step)
        newborn.expect(batches, branch.view.copy())
        options = {**step.options, **self.wish.options}
        return msgspec.structs.replace(step, model=self.wish.model or step.model, options=options)


def _is_asking(event: ev.Event) -> bool:
    """Whether the event opens a request, which changes no view."""
    if isinstance(event, ev.MessageAdded):
        return event.request is not None and event.answer is None
    return isinstance(event, ev.RequestStarted)


def _told(reader: Reader, lineage: Lineage) -> Iterator[Told]:
    for after, upto, conversation in lineage.parts:
        for record in reader.events(conversation, upto=None if upto is None else upto - after):
            yield Told(
                number=after + record.version,
                batch=after + record.batch,
                after=after,
                event=record.event,
                emptied=not record.json,
            )
