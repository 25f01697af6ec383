"""The second half of an audit: every stream folded from nothing, and what is derived compared with it.

Rules: only streams whose chain is sound are folded, since of a changed one all else that could be said
follows from the change; forks of an unsound stream are left out with it. Parents come before their forks,
and hand on the views that these begin with, packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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

_STEP = 1024
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
    """

    __slots__ = (
        *("base", "batch", "link", "other", "parent", "position", "sound", "stretch", "time"),
        *("version", "wrong"),
    )

    def __init__(self) -> None:
        self.version = self.position = self.batch = self.base = self.stretch = 0
        self.link = bytes(32)
        self.time = b""
        self.other: bytes | None = None
        self.parent: ev.Forked | None = None
        self.sound = True
        self.wrong: tuple[int, int] | None = None


class Recount:
    """Folds and compares; `run` does it all."""

    def __init__(self, scan: Scan, tell: Tell, progress: Callable[[int], None]) -> None:
        self._scan = scan
        self._tell = tell
        self._progress = progress
        self._done = 0
        self._wanted: dict[str, set[int]] = {}
        self._family = Family(self._wanted)
        self._left: dict[str, dict[int, ev.Redacted]] = {}
        self._snapshots: dict[str, set[int]] = {}
        self._lines: dict[str, list[object]] = {}
        self._names = Names()
        self._archived: dict[str, bool] = {}
        self._deleted: set[str] = set()
        self._streams: dict[str, Stream] = {}
        self._cursor = 0
        self._pending = Pending(scan.drafts())

    def run(self, streams: dict[str, Stream], noted: Iterable[Noted]) -> None:
        """Recount the *streams*, parents first; *noted* are the events that matter beforehand."""
        self._streams = streams
        for conversation, version in self._scan.snapshots():
            self._snapshots.setdefault(conversation, set()).add(version)
        for fork in filter(None, (stream.parent for stream in streams.values())):
            self._wanted.setdefault(fork.parent, set()).add(fork.version)
        notes = list(noted)
        for note in notes:
            if note.type == "redacted" and (redacted := redaction(note.data)):
                self._left.setdefault(text(note.conversation), {})[redacted.version] = redacted
        for note in notes:
            self._note(note)
        self._cursor = self._cursor_of_the_list()
        for conversation, stream in streams.items():
            if stream.parent is not None and not streams[stream.parent.parent].sound:
                stream.sound = False
            if stream.sound:
                self._fold(conversation, stream)
        self._compare_list()
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
            event = self._event(conversation, note.version, note.type, note.data)
            if isinstance(event, ev.Restored):
                self._wanted.setdefault(conversation, set()).add(event.version)
            elif isinstance(event, ev.Event):
                self._names.hear(conversation, event)
                if isinstance(event, ev.Deleted):
                    self._deleted.add(conversation)

    def _event(self, conversation: str, version: int, tag: str, data: bytes) -> ev.Event | Sentence:
        """An event, or why it cannot be read."""
        if not data:
            left = self._left.get(conversation, {}).get(version)
            if left is None:
                return sentence("its data is empty")
            data = bytes(left.left)
        try:
            return ev.decode(tag, data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
            return sentence("it cannot be read: {reason}", reason=str(fault))

    # -- a stream

    def _fold(self, conversation: str, stream: Stream) -> None:
        scan = self._scan
        ledger = self._family.stream(conversation, stream.parent)
        view = ledger.view
        requests = self._pending.of(conversation)
        snapshots = self._snapshots.get(conversation, set())
        wrong_snapshots: list[int] = []
        last = (1, 0, 0)  # version, messages and question where the list has come to
        created = updated = ""
        for version, position, tag, data, time in scan.stream(conversation):
            self._done += 1
            if not self._done % _STEP:
                self._progress(self._done)
            event = self._event(conversation, version, tag, data)
            wrong = event if isinstance(event, Sentence) else ledger.enter(event, not data)
            if isinstance(wrong, Sentence):
                stream.sound = False
                self._tell(wrong, conversation, version, position)
                return
            assert isinstance(event, ev.Event)
            if requests is not None:
                requests.hear(ledger.base + version, event)
            if version in snapshots and scan.snapshot(conversation, version) != pack(view):
                wrong_snapshots.append(version)
            created = created or time
            if position <= self._cursor or version == 1:
                listed = position <= self._cursor
                asked = position if tag == "request_started" and listed else last[2]
                last = (version, len(view) if listed else 0, asked)
                updated = max(updated, time)
        self._family.forget_view(conversation)
        if wrong_snapshots:
            what = sentence("the snapshot at this version is not what the events give")
            if len(wrong_snapshots) > 1:
                what = sentence(
                    "the snapshot at this version is not what the events give, nor are {more} later ones",
                    more=len(wrong_snapshots) - 1,
                )
            self._tell(what, conversation, wrong_snapshots[0])
        for version in sorted(snapshots):
            if not 1 <= version <= stream.version:
                what = sentence("there is a snapshot of a version that is not there")
                self._tell(what, conversation, version)
        parent = stream.parent
        self._lines[conversation] = [
            self._names.of(conversation),
            parent.parent if parent else None,
            parent.version if parent else None,
            stream.base,
            int(self._archived.get(conversation, False)),
            created,
            updated,
            *last,
        ]

    # -- the list

    def _cursor_of_the_list(self) -> int:
        last = max((stream.position for stream in self._streams.values()), default=0)
        cursor = 0
        for name, position in self._scan.cursors().items():
            if type(position) is not int or not 0 <= position <= last:
                what = "the table {name} says that it has read up to {position}; the log ends at {last}"
                self._tell(sentence(what, name=name, position=position, last=last))
            elif name == LIST:
                cursor = position
        return cursor

    def _compare_list(self) -> None:
        if self._scan.lacks("conversations") or self._scan.lacks("cursors"):
            return  # there is nothing that the list could be compared with, and that has been told
        listed = self._scan.listed()
        for conversation, line in self._lines.items():
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
                for column, there, right in zip(_LISTED, found, line, strict=True)
                if there != right or type(there) is not type(right)
            ]
            if wrong:
                what = sentence(
                    "the list of conversations says other than the events: {differences}",
                    differences=", ".join(wrong),
                )
                self._tell(what, conversation)
        for conversation in sorted(listed.keys() - self._streams.keys()):
            what = sentence("it is in the list of conversations, and has no events")
            self._tell(what, conversation)
