"""The content: every stream is folded from its events, and derived tables are compared with the result.

Invariants:
- Rows come in the order of their positions, so parents come before their forks. The packed views that forks
  begin with are kept until then.
- Problems are reported at the end, and only of streams whose chain is sound: everything else that could be
  said of a changed stream, and of its forks, follows from the change.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from operator import itemgetter

from openai2.audit.form import check_form
from openai2.audit.prescan import Prescan
from openai2.audit.references import DraftCheck, References, StreamReferences
from openai2.audit.report import Problems
from openai2.core import events as ev
from openai2.core.snapshot import pack
from openai2.errors import LazyMessage, lazy_message
from openai2.readmodels.list_update import DisplayNames
from openai2.store.audit_reader import Noted, Row, Scan, text
from openai2.store.reader import LIST

_LIST_COLUMNS = "name parent parent_version base archived created updated version messages asked".split()
_position, _time = itemgetter(2), itemgetter(6)


class _StreamFold:
    """The fold of one stream so far.

    *references* is None if the parent is unknown: then nothing is folded. *fault* is the first (problem,
    version, position); the fold ends there. *listed*, *messages*, *asked* and *updated* are the row of the
    list of conversations at the position where the list has got to.
    """

    def __init__(
        self, conversation: str, parent: ev.Forked | None, references: StreamReferences | None, created: bytes
    ) -> None:
        self.conversation = conversation
        self.parent = parent
        self.references = references
        self.created = created
        self.updated = b""
        self.version = 0
        self.listed, self.messages, self.asked = 1, 0, 0
        self.fault: tuple[LazyMessage, int, int] | None = None
        self.wrong_snapshots: list[int] = []
        self.is_complete = False


class ContentCheck:
    """Folds and compares: `fold` all rows, a run at a time, then `finish`."""

    def __init__(self, scan: Scan, problems: Problems, prescan: Prescan, last_position: int) -> None:
        self._scan = scan
        self._problems = problems
        self._prescan = prescan
        self._streams: dict[bytes, _StreamFold] = {}
        self._ends = scan.ends()
        self._decoders = {tag.encode(): ev.decoder(tag).decode for tag in ev.TYPES}
        self._drafts = DraftCheck(scan.drafts())
        self._snapshots = self._read_snapshots()
        self._needed_views: dict[str, set[int]] = {}
        for fork in prescan.forks():
            self._needed_views.setdefault(fork.parent, set()).add(fork.version)
        self._names = DisplayNames()
        self._archived: dict[str, bool] = {}
        self._deleted: set[str] = set()
        for note in prescan.noted:
            self._apply_note(note)
        self._references = References(self._needed_views)
        self._cursor = self._read_cursors(last_position)

    def _read_snapshots(self) -> dict[str, set[int]]:
        snapshots: dict[str, set[int]] = {}
        for conversation, version in self._scan.snapshots():
            if isinstance(version, int):
                snapshots.setdefault(conversation, set()).add(version)
            else:
                self._problems.add(lazy_message("a snapshot has a version that does not exist"), conversation)
        return snapshots

    def _read_cursors(self, last_position: int) -> int:
        """Check all cursors; return the position up to which the list of conversations was brought."""
        list_cursor = 0
        for name, position in self._scan.cursors().items():
            if type(position) is not int or not 0 <= position <= last_position:
                what = "the table {name} claims to be read up to {position}; the log ends at {last}"
                self._problems.add(lazy_message(what, name=name, position=position, last=last_position))
            elif name == LIST:
                list_cursor = position
        return list_cursor

    def _apply_note(self, note: Noted) -> None:
        conversation = text(note.conversation)
        if note.type in ("archived", "unarchived"):
            self._archived[conversation] = note.type == "archived"
        elif note.type != "redacted":
            event, _ = self._decode(note.conversation, note.version, note.type.encode(), note.data)
            if isinstance(event, ev.Restored):
                self._needed_views.setdefault(conversation, set()).add(event.version)
            elif event is not None:
                self._names.apply(conversation, event)
                if isinstance(event, ev.Deleted):
                    self._deleted.add(conversation)

    # -- the fold

    def fold(self, conversation: bytes, run: list[Row]) -> None:
        """Fold the next rows of one *conversation*, whose chain is sound so far."""
        stream = self._streams.get(conversation)
        if stream is None:
            stream = self._streams[conversation] = self._begin(run[0])
        if run[0][2] <= self._cursor < run[-1][2]:  # the list ends inside this run: note its state there
            split = bisect_right(run, self._cursor, key=_position)
            self._fold(stream, run[:split])
            run = run[split:]
        self._fold(stream, run)
        if stream.references is not None and stream.version == self._ends.get(conversation):
            stream.is_complete = stream.fault is None
            stream.references.drop_view()

    def _begin(self, row: Row) -> _StreamFold:
        name, _, _, _, tag, data, time, _ = row
        conversation = text(name)
        fork = self._prescan.fork(name, data) if tag == b"forked" else None
        references = None
        if fork is None or self._references.has(fork.parent):
            references = self._references.begin(conversation, fork)
        return _StreamFold(conversation, fork, references, time)

    def _fold(self, stream: _StreamFold, run: list[Row]) -> None:
        references, conversation = stream.references, stream.conversation
        if references is None or stream.fault is not None:
            return
        apply, decoders, base = references.apply, self._decoders, references.base
        requests = self._drafts.requests(conversation)
        snapshots = self._snapshots.get(conversation)
        for name, version, position, _, tag, data, time, _ in run:
            event: ev.Event | None
            wrong = check_form(conversation, text(time), data)
            if wrong is not None:
                stream.fault = (wrong, version, position)
                return
            try:
                event = decoders[tag](data)
            except (KeyError, *ev.DECODE_ERRORS):  # unknown, damaged or redacted
                event, wrong = self._decode(name, version, tag, data)
                if event is not None:
                    wrong = apply(event, is_redacted=not data)
            else:
                wrong = apply(event)
            if wrong is not None:
                stream.fault = (wrong, version, position)
                return
            if requests is not None and event is not None:
                requests.apply(base + version, event)
            if (
                snapshots is not None
                and version in snapshots
                and self._scan.snapshot(conversation, version) != pack(references.view)
            ):
                stream.wrong_snapshots.append(version)
        _, stream.version, position, *_ = run[-1]
        if position <= self._cursor:
            stream.listed, stream.messages = stream.version, len(references.view.ids)
            stream.asked = next(
                (row[2] for row in reversed(run) if row[4] == b"request_started"), stream.asked
            )
            stream.updated = max(stream.updated, *map(_time, run))

    def _decode(
        self, conversation: bytes, version: int, tag: bytes, data: bytes
    ) -> tuple[ev.Event | None, LazyMessage | None]:
        """Return the event, or what a redaction left of it; else why it cannot be decoded."""
        if not data:
            redactions = self._prescan.redactions(conversation, version)
            if not redactions:
                return None, lazy_message("its data is empty")
            data = bytes(redactions[-1].left)
        try:
            return ev.decode(text(tag), data), None
        except ev.DECODE_ERRORS as error:
            return None, lazy_message("it cannot be read: {reason}", reason=str(error))

    # -- the end

    def finish(self, unsound: Iterable[bytes]) -> None:
        """Report what is wrong with streams, and with tables derived from them, except *unsound* streams."""
        is_sound = {stream.conversation: True for stream in self._streams.values()}
        is_sound.update((text(conversation), False) for conversation in unsound)
        for stream in self._streams.values():  # parents come first
            conversation = stream.conversation
            if stream.parent is not None and not is_sound.get(stream.parent.parent):
                is_sound[conversation] = False
            if is_sound[conversation]:
                self._report_stream(stream)
                is_sound[conversation] = stream.is_complete
        self._compare_list(is_sound)
        for conversation, what in self._drafts.problems(is_sound):
            self._problems.add(what, conversation)
        for conversation in sorted(self._snapshots.keys() - is_sound.keys()):
            what = lazy_message("a snapshot belongs to a conversation that does not exist")
            self._problems.add(what, conversation, min(self._snapshots[conversation]))

    def _report_stream(self, stream: _StreamFold) -> None:
        conversation = stream.conversation
        if stream.fault is not None:
            self._problems.add(stream.fault[0], conversation, *stream.fault[1:])
        if not stream.is_complete:
            return
        if stream.wrong_snapshots:
            version, more = stream.wrong_snapshots[0], len(stream.wrong_snapshots) - 1
            what = lazy_message("the snapshot at this version differs from the events")
            if more:
                what = lazy_message(
                    "the snapshot at this version differs from the events, and so do {more} later ones",
                    more=more,
                )
            self._problems.add(what, conversation, version)
        for version in sorted(self._snapshots.get(conversation, ())):
            if not 1 <= version <= stream.version:
                what = lazy_message("a snapshot has a version that does not exist")
                self._problems.add(what, conversation, version)

    def _compare_list(self, is_sound: Mapping[str, bool]) -> None:
        if self._scan.lacks("conversations") or self._scan.lacks("cursors"):
            return  # that the table is missing is reported already
        listed = self._scan.listed()
        for stream in self._streams.values():
            conversation = stream.conversation
            if not is_sound[conversation]:
                continue
            found = listed.get(conversation)
            if conversation in self._deleted:
                if found is not None:
                    what = lazy_message("it was deleted, but it is in the list of conversations")
                    self._problems.add(what, conversation)
                continue
            if found is None:
                what = lazy_message("it is missing from the list of conversations")
                self._problems.add(what, conversation)
                continue
            differences = [
                f"{column}: {actual!r} ≠ {expected!r}"
                for column, actual, expected in zip(
                    _LIST_COLUMNS, found, self._expected_row(stream), strict=True
                )
                if actual != expected or type(actual) is not type(expected)
            ]
            if differences:
                what = lazy_message(
                    "the list of conversations differs from the events: {differences}",
                    differences=", ".join(differences),
                )
                self._problems.add(what, conversation)
        for conversation in sorted(listed.keys() - is_sound.keys()):
            what = lazy_message("it is in the list of conversations, but has no events")
            self._problems.add(what, conversation)

    def _expected_row(self, stream: _StreamFold) -> list[object]:
        """Return the row that the list of conversations should have for the stream."""
        parent, references = stream.parent, stream.references
        return [
            self._names.of(stream.conversation),
            None if parent is None else parent.parent,
            None if parent is None else parent.version,
            None if references is None else references.base,
            int(self._archived.get(stream.conversation, False)),
            text(stream.created),
            text(stream.updated or stream.created),
            *(stream.listed, stream.messages, stream.asked),
        ]
