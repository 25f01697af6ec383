"""Taking an archive in: all or nothing, verified before anything is written, and safe to repeat.

The file is read three times: for its outline, to verify every event, and to write. Rules:

- A stream that is here already is recognised by its hashes, and skipped; one that went on in the archive
  is extended.
- A stream that went on differently on both sides keeps what is here; the archive's side becomes a fork of
  it, for the reason "diverged", at the last common version. Where an event of that side goes back behind
  that version (an undo, a redaction), the fork begins where it goes back to, and tells again what was common.
  Its events are the same facts under new numbers and hashes (`retelling`). Ids and times follow from the
  archive, so that taking it in again recognises the fork too. Forks of a diverged stream move with it.
- Names are not touched, since they are part of what was hashed: a name that is taken here is shown with a
  number behind it (see `derived`).
- A redaction that arrives is done here as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import IO, NamedTuple

import msgspec

from openai2.archive.format import Chains, digest_of
from openai2.archive.reader import Outline, event_of, outline, records
from openai2.archive.rebase import Fork, counted_on, goes_back_to, id_from, retold
from openai2.audit.references import References
from openai2.core import events as ev
from openai2.errors import ArchiveError
from openai2.readmodels import rebuild
from openai2.store import Store, Transaction
from openai2.store.erase import empty

Progress = Callable[[int, int], None]
Stream = Iterator[ev.Recorded]

_STEP = 512


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation of an archive. *id* is its id here, *events* how many were appended.

    *state* is "new", "extended", "known" (all of it was here) or "diverged": then it is a fork of the
    conversation *diverged_from*, with which it has all up to *common* in common.
    """

    id: str
    name: str | None
    state: str
    events: int
    diverged_from: str | None = None
    common: int | None = None


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an archive: its conversations, in its order, and how many events were appended.

    *redacted*: texts were removed here because the archive says so; then *clean* says whether they are
    gone from the file already.
    """

    conversations: list[Arrived]
    events: int
    redacted: int = 0
    clean: bool = True


def take_in(store: Store, file: IO[bytes], progress: Progress) -> Imported:
    """Import the archive in *file*, which can be read more than once. Raises ArchiveError."""
    found = outline(file)
    total = 2 * found.header.events
    _verify(file, found, lambda done: progress(done, total))

    def job(tx: Transaction) -> Imported:
        return _Intake(tx, file, found, lambda done: progress(found.header.events + done, total)).run()

    done = store.transact(job)
    progress(total, total)
    if done.redacted:
        done = msgspec.structs.replace(done, clean=store.scrub())
    return done


def _verify(file: IO[bytes], found: Outline, progress: Callable[[int], None]) -> None:
    chains = Chains(found.redacted, found.forked)
    references = References(found.wanted)
    current, stream = "", None
    for number, record in records(file, found):
        try:
            chains.enter(record)
            emptied = not record.json
            record = _with_left(found, record)
            if record.conversation != current or stream is None:
                if stream is not None:
                    stream.drop_view()
                current = record.conversation
                stream = references.begin(current, found.forked.get(current))
            wrong = stream.apply(event_of(record, number), emptied)
            if wrong is not None:
                raise ValueError(wrong)
        except ValueError as fault:
            raise ArchiveError(
                "the archive was changed: line {line} (conversation {conversation}, version {version}): "
                "{reason}",
                line=number,
                conversation=record.conversation,
                version=record.version,
                reason=str(fault),
            ) from None
        if not number % _STEP:
            progress(number)
    if chains.heads != found.heads:
        raise ArchiveError("the archive was changed: it does not end with the heads that it names")


def _with_left(found: Outline, record: ev.Recorded) -> ev.Recorded:
    if record.json:
        return record
    redacted = found.redacted.get((record.conversation, record.version))
    if redacted is None:
        raise ValueError("its data is empty, and no redaction says so")
    return msgspec.structs.replace(record, left=bytes(redacted.left))


class _Split(NamedTuple):
    """Where a stream parts from the one that is here: what comes after *common* goes on in *fork*, whose
    first event forks at *start*; ids above *cut* count one more there, since that event has one too."""

    common: int
    start: int
    cut: int
    fork: str


class _Intake:
    """One archive going into one store, inside a transaction."""

    def __init__(
        self, tx: Transaction, file: IO[bytes], found: Outline, progress: Callable[[int], None]
    ) -> None:
        self._tx = tx
        self._file = file
        self._found = found
        self._progress = progress
        self._splits: dict[str, _Split] = {}
        self._children: dict[str, tuple[str, list[int]]] = {}
        self._bases: dict[str, int] = {}
        self._redacted = dict(found.redacted)
        self._gone: list[tuple[str, int]] = []
        self._count = 0
        self._done = 0

    def run(self) -> Imported:
        arrived = [self._stream(name) for name in self._found.starts]
        named = [msgspec.structs.replace(one, name=self._shown(one.id)) for one in arrived]
        emptied = empty(self._tx, self._gone)
        return Imported(conversations=named, events=self._count, redacted=emptied)

    def _shown(self, conversation: str) -> str | None:
        listed = self._tx.conversation(conversation)
        return listed.name if listed else None

    # -- one stream

    def _stream(self, name: str) -> Arrived:
        fork = self._found.forked.get(name)
        if fork is None:
            return self._take(name, lambda: self._read(name))
        parent, version, cuts = self._place(fork.parent, fork.version)
        if not cuts:
            self._bases[name] = fork.base
            return self._take(name, lambda: self._read(name))
        # What it forks from goes by other numbers here, and so does all that it says.
        twin = id_from(name, parent, version)
        ids = counted_on(cuts)
        first = msgspec.structs.replace(fork, parent=parent, version=version, base=ids(fork.base))
        self._children[name] = (twin, cuts)
        self._bases[twin] = first.base
        after = self._tx.hash_at(parent, version)
        told = Fork(twin, first, after, ids, versions=counted_on([]))
        taken = self._take(twin, lambda: retold(self._read(name), told, self._redacted))
        common = taken.common or version
        state = "known" if taken.state == "known" else "diverged"
        return msgspec.structs.replace(taken, state=state, diverged_from=parent, common=common)

    def _place(self, name: str, version: int) -> tuple[str, int, list[int]]:
        """Where the archive's event *version* of *name* is here, and how ids are counted there."""
        cuts: list[int] = []
        if name in self._children:
            name, above = self._children[name]
            cuts += above
        while name in self._splits and version > self._splits[name].common:
            split = self._splits[name]
            version -= split.start - 1
            cuts.append(split.cut)
            name = split.fork
        return name, version, cuts

    def _read(self, name: str) -> Stream:
        """The archive's stream from its beginning; one at a time, since they share the file."""
        for number, record in records(self._file, self._found, self._found.starts[name]):
            if record.conversation != name:
                return
            if not number % _STEP:
                self._progress(self._done + number)
            yield record

    def _take(self, name: str, read: Callable[[], Stream]) -> Arrived:
        """Take a stream in under its name here: all of it, what is new, or as a fork."""
        here, _ = self._tx.head(name)
        events = read()
        common = 0
        for mine, record in zip(self._tx.links(name), events, strict=False):
            if mine.hex() != record.hash:
                return self._diverged(name, common, record, read)
            common += 1
        added = self._append(name, events) if common == here else 0
        state = "new" if not here else "extended" if added else "known"
        if state == "new":
            rebuild.save_snapshots(self._tx, name)
        return Arrived(id=name, name=None, state=state, events=added)

    def _diverged(self, name: str, common: int, record: ev.Recorded, read: Callable[[], Stream]) -> Arrived:
        if not common:
            raise ArchiveError(
                "conversation {conversation} of the archive is another one here", conversation=name
            )
        base = self._bases.get(name, 0)
        behind = (goes_back_to(event, base) for event in islice(read(), common, None))
        start = max(1, min([common, *behind]))
        twin = id_from(name, record.hash, start)
        split = self._splits[name] = _Split(common, start, base + start, twin)
        self._bases[twin] = split.cut
        called = next(read()).event
        title = called.name if isinstance(called, (ev.Created, ev.Forked)) else None
        first = ev.Forked(parent=name, version=start, base=split.cut, name=title, reason="diverged")

        def versions(old: int) -> int:
            return max(1, old - start + 1)

        told = Fork(twin, first, self._tx.hash_at(name, start), counted_on([split.cut]), versions)
        taken = self._take(twin, lambda: retold(islice(read(), start, None), told, self._redacted))
        state = "known" if taken.state == "known" else "diverged"
        return msgspec.structs.replace(taken, state=state, diverged_from=name, common=common)

    def _append(self, name: str, events: Stream) -> int:
        """Append what is left of a stream; how many events that were."""
        added = 0
        while chunk := list(islice(events, _STEP)):
            chunk = [self._with_left(record) for record in chunk]
            self._tx.append_recorded(name, chunk, lambda record: digest_of(record, self._redacted))
            for record in chunk:
                if record.type == "redacted" and isinstance(event := record.event, ev.Redacted):
                    self._gone.append((name, event.version))
            added += len(chunk)
        self._count += added
        return added

    def _with_left(self, record: ev.Recorded) -> ev.Recorded:
        if record.json:
            return record
        left = bytes(self._redacted[record.conversation, record.version].left)
        return msgspec.structs.replace(record, left=left)
