"""Replays: every question of a conversation asked again, on a fork, of another model for example.

Invariants:
- `replay.plan` decides what happens next; this module reads, asks and records it.
- A fork enters the store in one transaction with its first answer (`replay.pending_fork`). So a wrong model,
  key or address leaves nothing behind.
- Each later step is durable before the next one begins. After a failure, the same call asks what is missing.
- A request is asked as on record, with its options and limit, except for what `ReplayOptions` changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
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
from openai2.replay.source import Source, SourceEvent
from openai2.store import Reader

if TYPE_CHECKING:
    from openai2.engine import Engine

#: Asks a request, puts it on record in the log, and raises if it fails.
Log = Conversation | PendingFork
Ask = Callable[[Log, RequestSpec], object]
AsyncAsk = Callable[[Log, RequestSpec], Awaitable[object]]


class Replayed(NamedTuple):
    """The result of a replay: the id of its fork (None: not made), the number of questions asked now, the
    number still missing (None: not known), and the error that stopped it."""

    source: str
    model: str | None
    conversation: str | None
    asked: int
    missing: int | None
    error: Exception | None = None


class Progress(NamedTuple):
    """The progress of one or many replays: how many are done, of how many, and the one that advanced."""

    done: int
    total: int
    latest: Replayed


OnProgress = Callable[[Progress], object] | None


class ReplayOptions(NamedTuple):
    """What a replay changes: the first version, the name of the fork, model, system message, API options.

    *recorded* are the API options as they go on record.
    """

    model: str | None = None
    system: str | None = None
    at: int | None = None
    name: str | None = None
    options: Mapping[str, Any] = MappingProxyType({})
    recorded: Mapping[str, Any] = MappingProxyType({})


class ReplayRun:
    """One replay, new or continued.

    Raises UnknownVersion, NameTaken, BadInput, and Refused if there is no question or the replay is running.
    """

    def __init__(self, engine: Engine, source: Conversation, options: ReplayOptions) -> None:
        check_name(options.name)
        if options.system is not None and not options.system.strip():
            raise BadInput("the new system message is empty: pass a text, or leave it out")
        if options.at is not None:
            source.check_version(options.at)
        self._options = options
        self._source = source
        self._store = engine.store
        with self._store.reading() as reader:
            lineage = Lineage.read(reader, source.id)
            start = 1 if options.at is None else max(1, lineage.base + options.at - 1)
            events = list(_source_events(reader, lineage))
            while start > 1 and _opens_request(events[start - 1].event):
                start -= 1  # a request is replayed on the view before it
            parent, version = lineage.place(start)
        self._plan = Source(events, start)
        if not self._plan.steps:
            raise Refused("conversation {conversation} has no question to ask again", conversation=source.id)
        replay = ev.Replay(
            source=source.id,
            start=start,
            model=options.model,
            system=options.system,
            options=dict(options.recorded),
        )
        found = self._find(engine, parent, replay)
        self._pending: PendingFork | None = None
        if found is None:
            self._pending, self._first = self._prepare_fork(parent, version, replay)
            self.conversation = self._pending.conversation
        else:
            self.conversation = found
            self._drop_interrupted()
        recorded = [record.event for record in self.conversation.events()]
        self._branch = Branch(self._plan, options.system, recorded)
        self._asked_before = self._branch.asked

    def result(self) -> Replayed:
        """Return how far the replay is."""
        return Replayed(
            source=self._source.id,
            model=self._options.model,
            conversation=self.conversation.id if self._pending is None else None,
            asked=self._branch.asked - self._asked_before,
            missing=self._branch.missing,
        )

    def run(self, ask: Ask, progress: OnProgress = None) -> Conversation:
        """Ask all that is missing, and return the fork. *progress* is called after each answer."""
        while (step := self._next()) is not None:
            if isinstance(step, RequestSpec):
                ask(self._pending or self.conversation, step)
                self._catch_up()
                self._report(progress)
            else:
                self._append(step)
        return self.conversation

    async def async_run(self, ask: AsyncAsk, progress: OnProgress = None) -> Conversation:
        """`run`, awaited."""
        while (step := await asyncio.to_thread(self._next)) is not None:
            if isinstance(step, RequestSpec):
                await ask(self._pending or self.conversation, step)
                await asyncio.to_thread(self._catch_up)
                self._report(progress)
            else:
                await asyncio.to_thread(self._append, step)
        return self.conversation

    def _report(self, progress: OnProgress) -> None:
        if progress is not None:
            progress(Progress(0, 1, self.result()))

    # -- the fork

    def _find(self, engine: Engine, parent: str, replay: ev.Replay) -> Conversation | None:
        """Return the replay to continue: the one with the given name, else the latest equal one."""
        name = self._options.name
        if name is None:
            candidates = [child.id for child in reversed(engine.children(parent))]
        else:
            with self._store.reading() as reader:
                known = reader.named(name)
            candidates = [] if known is None else [known.id]
        for candidate in candidates:
            conversation = engine.open(candidate)
            first = next(conversation.events()).event
            if isinstance(first, ev.Forked) and first.replay == replay:
                return conversation
            if name is not None:
                raise NameTaken(
                    "the name {name} is taken by conversation {conversation}, which is not this replay",
                    name=name,
                    conversation=candidate,
                )
        return None

    def _prepare_fork(self, parent: str, version: int, replay: ev.Replay) -> tuple[PendingFork, RequestSpec]:
        """Return the fork with the events before its first question, and that question."""
        with self._store.reading() as reader:
            lineage = Lineage.read(reader, parent).fork(new_id(), version)
        forked = ev.Forked(
            parent=parent,
            version=version,
            base=lineage.base,
            name=self._options.name,
            reason="replay",
            replay=replay,
        )
        branch = Branch(self._plan, self._options.system, [forked])
        batches: list[list[ev.Event]] = []
        if setup := branch.setup():
            for event in setup:
                branch.apply(branch.version + 1, event)
            batches.append(setup)
        while not isinstance(step := branch.next(), RequestSpec):
            assert step is not None
            batches.append(step)
        return PendingFork(self._source.handle, lineage, forked, batches, branch.view.copy()), step

    def _drop_interrupted(self) -> None:
        """Record requests that a crash cut off as failed, so that they are asked again."""
        with self._store.reading() as reader:
            open_drafts = list(reader.drafts(self.conversation.id))
        for draft in open_drafts:
            if drafts.is_alive(draft):
                raise Refused(
                    "the replay {conversation} is running already", conversation=self.conversation.id
                )
            self.conversation.drop(draft)

    # -- the steps

    def _next(self) -> list[ev.Event] | RequestSpec | None:
        """Return the events to append or the request to ask next; None at the end."""
        step = self._branch.next() if self._pending is None else self._first
        if not isinstance(step, RequestSpec):
            return step
        return msgspec.structs.replace(
            step,
            model=self._options.model or step.model,
            options={**step.options, **self._options.options},
        )

    def _append(self, events: list[ev.Event]) -> None:
        expected = self._branch.version - len(events)

        def decide(state: StreamState) -> list[ev.Event]:
            if state.version != expected:
                raise Refused(
                    "conversation {conversation} was changed by another writer during its replay",
                    conversation=self.conversation.id,
                )
            return events

        self.conversation.commit(decide)

    def _catch_up(self) -> None:
        """Apply what was recorded since the last step."""
        self._pending = None
        for record in self.conversation.events(after=self._branch.version):
            self._branch.apply(record.version, record.event)


async def run_all(
    engine: Engine,
    conversations: Iterable[str | Conversation] | None,
    variants: Sequence[ReplayOptions],
    ask: AsyncAsk,
    *,
    jobs: int,
    progress: OnProgress = None,
) -> list[Replayed]:
    """Replay conversations (None: `choose` selects) in each of *variants*, *jobs* at a time.

    A replay that fails does not stop the others; its result holds the error.
    """
    if not is_int(jobs, 1):
        raise BadInput("expected a number of jobs of 1 or more, got {jobs}", jobs=jobs)
    sources = await asyncio.to_thread(choose, engine, conversations)
    limit = asyncio.Semaphore(jobs)
    done, total = 0, len(sources) * len(variants)

    def report(latest: Replayed) -> None:
        if progress is not None:
            progress(Progress(done, total, latest))

    async def run_one(source: Conversation, options: ReplayOptions) -> Replayed:
        nonlocal done
        latest = Replayed(source.id, options.model, None, 0, None)

        def advance(step: Progress) -> None:
            nonlocal latest
            report(latest := step.latest)

        async with limit:
            try:
                run = await asyncio.to_thread(ReplayRun, engine, source, options)
                latest = run.result()
                await run.async_run(ask, advance)
                latest = run.result()
            except Exception as error:  # noqa: BLE001 - the result holds it
                latest = latest._replace(error=error)
        done += 1
        report(latest)
        return latest

    return await asyncio.gather(*[run_one(source, options) for source in sources for options in variants])


def choose(engine: Engine, conversations: Iterable[str | Conversation] | None) -> list[Conversation]:
    """Open *conversations*; None: all that hold a question and are neither archived nor replays."""
    if conversations is not None:
        return [engine.open(one) if isinstance(one, str) else one for one in conversations]
    listed = [engine.open(row.id) for row in reversed(engine.conversations())]
    with engine.store.reading() as reader:
        asked = {record.conversation for record in reader.events_of_types(("request_started",))}
        replays = {
            record.conversation
            for record in reader.events_of_types(("forked",))
            if isinstance(event := record.event, ev.Forked) and event.replay is not None
        }
    return [each for each in listed if each.id in asked and each.id not in replays]


def _opens_request(event: ev.Event) -> bool:
    """Return whether the event belongs to the start of a request, which changes no view."""
    if isinstance(event, ev.MessageAdded):
        return event.request is not None and event.answer is None
    return isinstance(event, ev.RequestStarted)


def _source_events(reader: Reader, lineage: Lineage) -> Iterator[SourceEvent]:
    for after, upto, conversation in lineage.parts:
        for record in reader.events(conversation, upto=None if upto is None else upto - after):
            yield SourceEvent(
                number=after + record.version,
                batch=after + record.batch,
                after=after,
                event=record.event,
                is_redacted=not record.json,
            )
