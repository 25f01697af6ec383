"""Import an archive: all or nothing, verified before anything is written, and repeatable.

The file is read three times: for its outline, to verify every event, and to write.

Invariants:
- A stream that the store has is recognised by its hashes and skipped. If the archive has more events of it,
  it is extended.
- If store and archive went on differently, the store's stream stays. The archive's side becomes a fork of it
  with the reason "diverged", at the last common version. If one of its events refers to an earlier version
  (an undo, a redaction), the fork begins before that version and repeats the common events (`rebase`).
- Ids and times of such a fork follow from the archive, so a second import recognises it. Forks of a diverged
  stream move with it.
- Names are hashed, so they are not changed. The list shows a name that is taken with a number behind it.
- Redactions in the archive are carried out in the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import IO, NamedTuple

import msgspec

from openai2.archive.format import NO_REDACTION, Chains, Progress, digest_of
from openai2.archive.reader import Outline, event_of, read_outline, records
from openai2.archive.rebase import Target, derive_id, last_shareable, rebase, skip_cuts
from openai2.audit.form import check_form
from openai2.audit.references import References
from openai2.core import events as ev
from openai2.errors import ArchiveError
from openai2.readmodels import rebuild
from openai2.store import Store, Transaction
from openai2.store.erase import empty

_Stream = Iterator[ev.Recorded]

_STEP = 512  # events between two reports of progress, and in one chunk


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation of an archive. *id* is its id in the store, *events* how many were appended.

    *state* is "new", "extended", "known" (the store had all of it) or "diverged": then it is a fork of the
    conversation *diverged_from*, and they have the versions up to *common* in common.
    """

    id: str
    name: str | None
    state: str
    events: int
    diverged_from: str | None = None
    common: int | None = None


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an import: the conversations, in the archive's order, and how many events were appended.

    *redacted*: how many events the archive's redactions emptied in the store. *clean* is False if a reader in
    another connection keeps their bytes in the file (`Engine.scrub` tries again).
    """

    conversations: list[Arrived]
    events: int
    redacted: int = 0
    clean: bool = True


def import_archive(store: Store, file: IO[bytes], progress: Progress) -> Imported:
    """Import the archive in *file*, which must be seekable. Raises ArchiveError."""
    outline = read_outline(file)
    total = 2 * outline.header.events
    _verify(file, outline, lambda done: progress(done, total))

    def job(tx: Transaction) -> Imported:
        return _Import(tx, file, outline, lambda done: progress(outline.header.events + done, total)).run()

    imported = store.transact(job)
    progress(total, total)
    if imported.redacted:
        imported = msgspec.structs.replace(imported, clean=store.scrub())
    return imported


def _verify(file: IO[bytes], outline: Outline, progress: Callable[[int], None]) -> None:
    """Check the chain and the references of every event. Raises ArchiveError."""
    chains = Chains(outline.redacted, outline.forked)
    references = References(outline.needed_views)
    current, stream = "", None
    for line, record in records(file, outline):
        try:
            chains.check(record)
            malformed = check_form(record.conversation, record.time, record.json)
            if malformed is not None:
                raise ValueError(malformed)
            is_redacted = not record.json
            record = _restore_left(record, outline.redacted)
            if record.conversation != current or stream is None:
                if stream is not None:
                    stream.drop_view()
                current = record.conversation
                fork = outline.forked.get(current)
                stream = references.begin(current, fork)
                if fork is not None and fork.base != stream.base:
                    raise ValueError(f"its numbers go on from {fork.base}, not from {stream.base}")
            wrong = stream.apply(event_of(record, line), is_redacted)
            if wrong is not None:
                raise ValueError(wrong)
        except ValueError as error:
            raise ArchiveError(
                "the archive was changed: line {line} (conversation {conversation}, version {version}): "
                "{reason}",
                line=line,
                conversation=record.conversation,
                version=record.version,
                reason=str(error),
            ) from None
        if not line % _STEP:
            progress(line)
    if chains.heads != outline.heads:
        raise ArchiveError("the archive was changed: its last line does not match the heads of its streams")


def _restore_left(record: ev.Recorded, redacted: dict[tuple[str, int], ev.Redacted]) -> ev.Recorded:
    """Return the event with what its redaction left. Raises ValueError if no redaction is on record."""
    if record.json:
        return record
    redaction = redacted.get((record.conversation, record.version))
    if redaction is None:
        raise ValueError(NO_REDACTION)
    return msgspec.structs.replace(record, left=bytes(redaction.left))


class _Split(NamedTuple):
    """How a diverged stream was split: its versions after *common* are events of *fork*.

    The fork begins at version *start* of the stream; ids above *cut* grow by one, for its `forked` event.
    """

    common: int
    start: int
    cut: int
    fork: str


class _Import:
    """The import of one archive into one store, inside a transaction."""

    def __init__(
        self, tx: Transaction, file: IO[bytes], outline: Outline, progress: Callable[[int], None]
    ) -> None:
        self._tx = tx
        self._file = file
        self._outline = outline
        self._progress = progress
        self._splits: dict[str, _Split] = {}
        self._rebased: dict[str, tuple[str, list[int]]] = {}  # forks of diverged streams: (new id, cuts)
        self._bases: dict[str, int] = {}
        self._redacted = dict(outline.redacted)
        self._to_empty: list[tuple[str, int]] = []
        self._appended = 0
        self._last_line = 0

    def run(self) -> Imported:
        arrived = [self._import_stream(name) for name in self._outline.starts]
        named = [msgspec.structs.replace(item, name=self._listed_name(item.id)) for item in arrived]
        emptied = empty(self._tx, self._to_empty)
        return Imported(conversations=named, events=self._appended, redacted=emptied)

    def _listed_name(self, conversation: str) -> str | None:
        listed = self._tx.conversation(conversation)
        return listed.name if listed else None

    def _import_stream(self, name: str) -> Arrived:
        fork = self._outline.forked.get(name)
        if fork is None:
            return self._import_as(name, lambda: self._read(name))
        parent, version, cuts = self._locate(fork.parent, fork.version)
        if not cuts:
            self._bases[name] = fork.base
            return self._import_as(name, lambda: self._read(name))
        # The parent was rebased, so its numbers differ here: rebase the fork too.
        new_id = derive_id(name, parent, version)
        map_id = skip_cuts(cuts)
        first = msgspec.structs.replace(fork, parent=parent, version=version, base=map_id(fork.base))
        self._rebased[name] = (new_id, cuts)
        self._bases[new_id] = first.base
        target = Target(new_id, first, self._tx.hash_at(parent, version), map_id, skip_cuts([]))
        arrived = self._import_as(new_id, lambda: rebase(self._read(name), target, self._redacted))
        return _as_diverged(arrived, parent, arrived.common or version)

    def _locate(self, name: str, version: int) -> tuple[str, int, list[int]]:
        """Return (conversation, version, cuts): where an archived event is in the store, and how ids map."""
        cuts: list[int] = []
        if name in self._rebased:
            name, inherited = self._rebased[name]
            cuts += inherited
        while name in self._splits and version > self._splits[name].common:
            split = self._splits[name]
            version -= split.start - 1
            cuts.append(split.cut)
            name = split.fork
        return name, version, cuts

    def _read(self, name: str) -> _Stream:
        """Yield a stream of the archive. Only one may be read at a time: they share the file."""
        for line, record in records(self._file, self._outline, name):
            if record.conversation != name:
                return
            if line >= self._last_line + _STEP:  # a diverged stream is read more than once
                self._last_line = line
                self._progress(line)
            yield record

    def _import_as(self, name: str, read: Callable[[], _Stream]) -> Arrived:
        """Import a stream as *name*: all of it, what is new, or as a fork."""
        stored, _ = self._tx.head(name)
        events = read()
        common = 0
        for stored_hash, record in zip(self._tx.links(name), events, strict=False):
            if stored_hash.hex() != record.hash:
                return self._import_diverged(name, common, record, read)
            common += 1
        appended = self._append(name, events) if common == stored else 0
        state = "new" if not stored else "extended" if appended else "known"
        if state == "new":
            rebuild.save_snapshots(self._tx, name)
        return Arrived(id=name, name=None, state=state, events=appended)

    def _import_diverged(
        self, name: str, common: int, record: ev.Recorded, read: Callable[[], _Stream]
    ) -> Arrived:
        """Import the events after *common* as a fork; *record* is the first that differs."""
        if not common:
            raise ArchiveError(
                "conversation {conversation} of the archive differs from the one with this id in the store",
                conversation=name,
            )
        base = self._bases.get(name, 0)
        shareable = (last_shareable(event, base) for event in islice(read(), common, None))
        start = max(1, min([common, *shareable]))
        new_id = derive_id(name, record.hash, start)
        split = self._splits[name] = _Split(common, start, base + start, new_id)
        self._bases[new_id] = split.cut
        begin = next(read()).event
        title = begin.name if isinstance(begin, (ev.Created, ev.Forked)) else None
        first = ev.Forked(parent=name, version=start, base=split.cut, name=title, reason="diverged")

        def map_version(version: int) -> int:
            return max(1, version - start + 1)

        target = Target(new_id, first, self._tx.hash_at(name, start), skip_cuts([split.cut]), map_version)
        arrived = self._import_as(new_id, lambda: rebase(islice(read(), start, None), target, self._redacted))
        return _as_diverged(arrived, name, common)

    def _append(self, name: str, events: _Stream) -> int:
        """Append the rest of a stream; return the number of events."""
        appended = 0
        while chunk := [_restore_left(record, self._redacted) for record in islice(events, _STEP)]:
            self._tx.append_recorded(name, chunk, lambda record: digest_of(record, self._redacted))
            for record in chunk:
                if record.type == "redacted" and isinstance(event := record.event, ev.Redacted):
                    self._to_empty.append((name, event.version))
            appended += len(chunk)
        self._appended += appended
        return appended


def _as_diverged(arrived: Arrived, parent: str, common: int) -> Arrived:
    state = "known" if arrived.state == "known" else "diverged"
    return msgspec.structs.replace(arrived, state=state, diverged_from=parent, common=common)
