"""The second half of an audit: every stream folded from nothing, and what is derived compared with it.

Rules: it goes along with the first half (`chaincheck`), event by event, in the order of their commit; so
parents come before their forks, and hand on the views that these begin with, packed. Only of streams whose
chain is sound anything is told, since of a changed one all else that could be said follows from the change;
forks of an unsound stream are left out with it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from openai2 import events as ev
from openai2.derived import Names
from openai2.pending import Pending
from openai2.projection import pack
from openai2.references import Family
from openai2.sentence import Sentence, sentence
from openai2.store.reader import LIST
from openai2.store.scan import Noted, Scan, redaction, text

#: Version, position, type, data and time of an event whose place in the chain is sound.
Event = tuple[int, int, bytes, bytes, bytes]
Fold = Callable[[Event], None]

_NONE: frozenset[int] = frozenset()
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LISTED = "name parent parent_version base archived created updated version messages asked".split()


class Tell(Protocol):
    """How a problem is told."""

    def __call__(
        self,
        what: Sentence,
        conversation: str | None = None,
        version: int | None = None,
        position: int | None = None,
    ) -> None: ...


class Stream:
    """What the first half knows of a stream: its last event, and what it descends from.

    *other* is what the last event's hash should have been where it is not; *wrong* the first event of a
    stretch that does not fit, *stretch* how many there are, and *sound* whether all has fitted.

    *last* is the version at which it ends. *fold* takes its events while they are sound; what came of them is
    in *faults*, and in *line* as the list of conversations should have it.
    """

    __slots__ = (
        *("base", "batch", "link", "other", "parent", "position", "sound", "stretch", "time"),
        *("version", "wrong", "last", "fold", "faults", "line"),
    )

    def __init__(self) -> None:
        self.version = self.position = self.batch = self.base = self.stretch = 0
        self.link = bytes(32)
        self.time = b""
        self.other: bytes | None = None
        self.parent: ev.Forked | None = None
        self.sound = True
        self.wrong: tuple[int, int] | None = None
        self.last = 0
        self.fold: Fold | None = None
        self.faults: list[tuple[Sentence, int, int | None]] = []
        self.line: list[object] | None = None


class Recount:
    """Folds and compares: `begin` what is known beforehand, `stream` each, and `finish`."""

    def __init__(self, scan: Scan, tell: Tell) -> None:
        self._scan = scan
        self._tell = tell
        self._wanted: dict[str, set[int]] = {}
        self._family = Family(self._wanted)
        self._left: dict[str, dict[int, ev.Redacted]] = {}
        self._snapshots: dict[str, set[int]] = {}
        self._names = Names()
        self._archived: dict[str, bool] = {}
        self._deleted: set[str] = set()
        self._cursor = 0
        self._pending = Pending(scan.drafts())
        self._decoders = {tag.encode(): ev.decoder(tag).decode for tag in ev.TYPES}

    def begin(self, noted: Sequence[Noted], forks: Iterable[ev.Forked], last: int) -> None:
        """*noted* are the events that matter beforehand, *forks* those among them that begin a fork."""
        for conversation, version in self._scan.snapshots():
            if isinstance(version, int):
                self._snapshots.setdefault(conversation, set()).add(version)
            else:
                self._tell(sentence("there is a snapshot of a version that is not there"), conversation)
        for fork in forks:
            self._wanted.setdefault(fork.parent, set()).add(fork.version)
        for note in noted:
            if note.type == "redacted" and (redacted := redaction(note.data)):
                self._left.setdefault(text(note.conversation), {})[redacted.version] = redacted
        for note in noted:
            self._note(note)
        self._cursor = self._cursor_of_the_list(last)

    def stream(self, conversation: str, stream: Stream) -> None:
        """Fold a stream that begins, once it is known what it descends from, and as far as it is sound."""
        if stream.sound and (stream.parent is None or self._family.knows(stream.parent.parent)):
            folding = self._folding(conversation, stream)
            next(folding)
            stream.fold = folding.send

    def finish(self, streams: Mapping[str, Stream]) -> None:
        """Tell what is wrong with *streams* whose chain is sound, parents first, and with what is derived."""
        for conversation, stream in streams.items():
            if stream.parent is not None and not streams[stream.parent.parent].sound:
                stream.sound = False
            if stream.sound:
                self._tell_stream(conversation, stream)
        self._compare_list(streams)
        sound = {conversation: stream.sound for conversation, stream in streams.items()}
        for conversation, what in self._pending.problems(sound):
            self._tell(what, conversation)
        for conversation in sorted(self._snapshots.keys() - streams.keys()):
            version = min(self._snapshots[conversation])
            what = sentence("there is a snapshot of a conversation that is not there")
            self._tell(what, conversation, version)

    def _note(self, note: Noted) -> None:
        conversation = text(note.conversation)
        if note.type in ("archived", "unarchived"):
            self._archived[conversation] = note.type == "archived"
        elif note.type != "redacted":
            event = self._event(conversation, note.version, note.type.encode(), note.data)
            if isinstance(event, ev.Restored):
                self._wanted.setdefault(conversation, set()).add(event.version)
            elif isinstance(event, ev.Event):
                self._names.hear(conversation, event)
                if isinstance(event, ev.Deleted):
                    self._deleted.add(conversation)

    def _event(self, conversation: str, version: int, tag: bytes, data: bytes) -> ev.Event | Sentence:
        """An event, or why it cannot be read."""
        if not data:
            left = self._left.get(conversation, {}).get(version)
            if left is None:
                return sentence("its data is empty")
            data = bytes(left.left)
        try:
            return ev.decode(text(tag), data)
        except _UNREADABLE as fault:
            return sentence("it cannot be read: {reason}", reason=str(fault))

    # -- a stream

    def _folding(self, conversation: str, stream: Stream) -> Generator[None, Event, None]:
        """Takes the events of a stream as they are sent, and leaves in it what came of them."""
        ledger = self._family.stream(conversation, stream.parent)
        view, enter, decoders = ledger.view, ledger.enter, self._decoders
        requests = self._pending.of(conversation)
        snapshots = self._snapshots.get(conversation, _NONE)
        wrong_snapshots: list[int] = []
        listed, messages, asked = 1, 0, 0  # version, messages and question where the list has come to
        cursor = self._cursor
        created = updated = b""
        version, end = 0, stream.last
        while version != end:
            version, position, tag, data, time = yield
            event: ev.Event | Sentence
            try:
                event = decoders[tag](data)
            except (KeyError, *_UNREADABLE):  # it was redacted, perhaps
                event = self._event(conversation, version, tag, data)
            wrong = event if isinstance(event, Sentence) else enter(event, not data)
            if wrong is not None:
                stream.faults = [(wrong, version, position)]
                stream.fold = None
                yield
                return
            if requests is not None and isinstance(event, ev.Event):
                requests.hear(ledger.base + version, event)
            if version in snapshots and self._scan.snapshot(conversation, version) != pack(view):
                wrong_snapshots.append(version)
            if position <= cursor:
                listed, messages = version, len(view.ids)
                if tag == b"request_started":
                    asked = position
                if time > updated:
                    updated = time
            if version == 1:
                created, updated = time, updated or time
        self._family.forget_view(conversation)
        if wrong_snapshots:
            what = sentence("the snapshot at this version is not what the events give")
            if len(wrong_snapshots) > 1:
                what = sentence(
                    "the snapshot at this version is not what the events give, nor are {more} later ones",
                    more=len(wrong_snapshots) - 1,
                )
            stream.faults.append((what, wrong_snapshots[0], None))
        parent = stream.parent
        stream.line = [
            self._names.of(conversation),
            parent.parent if parent else None,
            parent.version if parent else None,
            stream.base,
            int(self._archived.get(conversation, False)),
            text(created),
            text(updated),
            *(listed, messages, asked),
        ]
        stream.fold = None
        yield

    def _tell_stream(self, conversation: str, stream: Stream) -> None:
        """What was wrong with a stream whose chain is sound."""
        for what, version, position in stream.faults:
            self._tell(what, conversation, version, position)
        if stream.line is None:
            stream.sound = False
            return
        for version in sorted(self._snapshots.get(conversation, _NONE)):
            if not 1 <= version <= stream.version:
                what = sentence("there is a snapshot of a version that is not there")
                self._tell(what, conversation, version)

    # -- the list

    def _cursor_of_the_list(self, last: int) -> int:
        cursor = 0
        for name, position in self._scan.cursors().items():
            if type(position) is not int or not 0 <= position <= last:
                what = "the table {name} says that it has read up to {position}; the log ends at {last}"
                self._tell(sentence(what, name=name, position=position, last=last))
            elif name == LIST:
                cursor = position
        return cursor

    def _compare_list(self, streams: Mapping[str, Stream]) -> None:
        if self._scan.lacks("conversations") or self._scan.lacks("cursors"):
            return  # there is nothing that the list could be compared with, and that has been told
        listed = self._scan.listed()
        for conversation, stream in streams.items():
            if not stream.sound or stream.line is None:
                continue
            found = listed.get(conversation)
            if conversation in self._deleted:
                if found is not None:
                    what = sentence("it was deleted, and is in the list of conversations")
                    self._tell(what, conversation)
                continue
            if found is None:
                self._tell(sentence("it is missing in the list of conversations"), conversation)
                continue
            wrong = [
                f"{column}: {there!r} ≠ {right!r}"
                for column, there, right in zip(_LISTED, found, stream.line, strict=True)
                if there != right or type(there) is not type(right)
            ]
            if wrong:
                what = sentence(
                    "the list of conversations says other than the events: {differences}",
                    differences=", ".join(wrong),
                )
                self._tell(what, conversation)
        for conversation in sorted(listed.keys() - streams.keys()):
            what = sentence("it is in the list of conversations, and has no events")
            self._tell(what, conversation)
