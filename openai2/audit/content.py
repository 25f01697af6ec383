"""The second half of an audit: every stream folded from nothing, and what is derived compared with it.

Rules: events come in the order of their commit; so parents come before their forks, and hand on the views
that these begin with, packed. Only of streams whose chain is sound (`chaincheck`) anything is told, since of
a changed one all else that could be said follows from the change; forks of an unsound stream are left out
with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter

import msgspec

from openai2.audit.chain import Tell
from openai2.audit.pending import Pending
from openai2.audit.prescan import Beforehand
from openai2.audit.references import Family
from openai2.core import events as ev
from openai2.core.projection import pack
from openai2.readmodels.rebuild import Names
from openai2.sentence import Sentence, sentence
from openai2.store.audit_reader import Meant, Noted, Scan, text
from openai2.store.reader import LIST

_NONE: frozenset[int] = frozenset()
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_LISTED = "name parent parent_version base archived created updated version messages asked".split()
_conversation, _position, _time = itemgetter(0), itemgetter(2), itemgetter(5)


class _Fold:
    """A stream while it is folded, and after.

    *parent* is what it descends from; *send* takes its next events, None once it is folded or has failed.
    What came of them is in *faults*, how far it goes in *version*, and in *line* what the list is to say.
    """

    __slots__ = ("faults", "line", "parent", "send", "version")

    def __init__(self, parent: ev.Forked | None) -> None:
        self.parent = parent
        self.version = 0
        self.send: Callable[[list[Meant]], None] | None = None
        self.faults: list[tuple[Sentence, int, int | None]] = []
        self.line: list[object] | None = None


class Recount:
    """Folds and compares: `begin`, `fold` all events, and `finish`."""

    def __init__(self, scan: Scan, tell: Tell, before: Beforehand) -> None:
        self._scan = scan
        self._tell = tell
        self._before = before
        self._wanted: dict[str, set[int]] = {}
        self._family = Family(self._wanted)
        self._folds: dict[str, _Fold] = {}
        self._snapshots: dict[str, set[int]] = {}
        self._names = Names()
        self._archived: dict[str, bool] = {}
        self._deleted: set[str] = set()
        self._cursor = 0
        self._pending = Pending(scan.drafts())
        self._decoders = {tag.encode(): ev.decoder(tag).decode for tag in ev.TYPES}

    @property
    def streams(self) -> int:
        """How many were met."""
        return len(self._folds)

    def begin(self, last: int) -> None:
        """Read what is to be compared; *last* is the position at which the log ends."""
        for conversation, version in self._scan.snapshots():
            if isinstance(version, int):
                self._snapshots.setdefault(conversation, set()).add(version)
            else:
                self._tell(sentence("there is a snapshot of a version that is not there"), conversation)
        for fork in self._before.forks():
            self._wanted.setdefault(fork.parent, set()).add(fork.version)
        for note in self._before.noted:
            self._note(note)
        self._cursor = self._cursor_of_the_list(last)

    def fold(
        self,
        pages: Iterable[list[Meant]],
        unsound: Collection[bytes],
        progress: Callable[[int], object],
    ) -> None:
        """Fold all events, which come in *pages*, but those of streams whose chain is *unsound*."""
        ends = self._scan.ends()
        folds: dict[bytes, _Fold] = {}
        done = 0
        for page in self._parted(pages):
            for name, same in groupby(page, _conversation):
                run = list(same)
                fold = folds.get(name)
                if fold is None:
                    fold = self._begun(run[0], ends.get(name, -1), name in unsound)
                    folds[name] = self._folds[text(name)] = fold
                if fold.send is not None:
                    fold.send(run)
            done += len(page)
            progress(done)

    def finish(self, unsound: Collection[bytes]) -> None:
        """Tell what is wrong with streams whose chain is sound, parents first, and with what is derived."""
        sound = dict.fromkeys(self._folds, True)
        sound.update((text(name), False) for name in unsound)
        for conversation, fold in self._folds.items():
            if fold.parent is not None and not sound.get(fold.parent.parent):
                sound[conversation] = False
            if sound[conversation]:
                self._tell_stream(conversation, fold)
                sound[conversation] = fold.line is not None
        self._compare_list(sound)
        for conversation, what in self._pending.problems(sound):
            self._tell(what, conversation)
        for conversation in sorted(self._snapshots.keys() - sound.keys()):
            version = min(self._snapshots[conversation])
            what = sentence("there is a snapshot of a conversation that is not there")
            self._tell(what, conversation, version)

    def _note(self, note: Noted) -> None:
        conversation = text(note.conversation)
        if note.type in ("archived", "unarchived"):
            self._archived[conversation] = note.type == "archived"
        elif note.type != "redacted":
            event, _ = self._event(note.conversation, note.version, note.type.encode(), note.data)
            if isinstance(event, ev.Restored):
                self._wanted.setdefault(conversation, set()).add(event.version)
            elif event is not None:
                self._names.hear(conversation, event)
                if isinstance(event, ev.Deleted):
                    self._deleted.add(conversation)

    def _parted(self, pages: Iterable[list[Meant]]) -> Iterator[list[Meant]]:
        """Pages, none of which goes on beyond what the list of conversations has read."""
        for page in pages:
            known = bisect_right(page, self._cursor, key=_position)
            yield from filter(None, (page[:known], page[known:]))

    def _event(
        self, name: bytes, version: int, tag: bytes, data: bytes
    ) -> tuple[ev.Event | None, Sentence | None]:
        """An event, or why it cannot be read."""
        if not data:
            redactions = self._before.redactions(name, version)
            if not redactions:
                return None, sentence("its data is empty")
            data = bytes(redactions[-1].left)
        try:
            return ev.decode(text(tag), data), None
        except _UNREADABLE as fault:
            return None, sentence("it cannot be read: {reason}", reason=str(fault))

    # -- a stream

    def _begun(self, first: Meant, end: int, unsound: bool) -> _Fold:
        """A stream that begins with the event *first* and ends with the version *end*."""
        name, version, _, tag, data, _ = first
        fork = self._before.fork(name, data) if tag == b"forked" else None
        fold = _Fold(fork)
        if version == 1 and not unsound and (fork is None or self._family.knows(fork.parent)):
            folding = self._folding(name, fold, end)
            next(folding)
            fold.send = folding.send
        return fold

    def _folding(self, name: bytes, fold: _Fold, end: int) -> Generator[None, list[Meant], None]:
        """Takes the events of a stream as they are sent, and leaves in *fold* what came of them."""
        conversation, parent, cursor = text(name), fold.parent, self._cursor
        ledger = self._family.stream(conversation, parent)
        view, enter, decoders = ledger.view, ledger.enter, self._decoders
        requests = self._pending.of(conversation)
        snapshots = self._snapshots.get(conversation, _NONE)
        wrong_snapshots: list[int] = []
        listed, messages, asked = 1, 0, 0  # version, messages and question where the list has come to
        created = updated = b""
        version = position = 0
        while version != end:
            run = yield
            created = created or run[0][5]
            for _, version, position, tag, data, _ in run:
                event: ev.Event | None
                wrong: Sentence | None
                try:
                    event = decoders[tag](data)
                except (KeyError, *_UNREADABLE):  # it was redacted, perhaps
                    event, wrong = self._event(name, version, tag, data)
                    if event is not None:
                        wrong = enter(event, not data)
                else:
                    wrong = enter(event)
                if wrong is not None:
                    fold.faults = [(wrong, version, position)]
                    fold.send = None
                    yield
                    return
                if requests is not None and event is not None:
                    requests.hear(ledger.base + version, event)
                if version in snapshots and self._scan.snapshot(conversation, version) != pack(view):
                    wrong_snapshots.append(version)
            if position <= cursor:
                listed, messages = version, len(view.ids)
                asked = next((row[2] for row in reversed(run) if row[3] == b"request_started"), asked)
                updated = max(updated, *map(_time, run))
        self._family.forget_view(conversation)
        if wrong_snapshots:
            what = sentence("the snapshot at this version is not what the events give")
            if len(wrong_snapshots) > 1:
                what = sentence(
                    "the snapshot at this version is not what the events give, nor are {more} later ones",
                    more=len(wrong_snapshots) - 1,
                )
            fold.faults.append((what, wrong_snapshots[0], None))
        fold.version = version
        fold.line = [
            self._names.of(conversation),
            parent.parent if parent else None,
            parent.version if parent else None,
            ledger.base,
            int(self._archived.get(conversation, False)),
            text(created),
            text(updated or created),
            *(listed, messages, asked),
        ]
        fold.send = None
        yield

    def _tell_stream(self, conversation: str, fold: _Fold) -> None:
        """What was wrong with a stream whose chain is sound."""
        for what, version, position in fold.faults:
            self._tell(what, conversation, version, position)
        if fold.line is None:
            return
        for version in sorted(self._snapshots.get(conversation, _NONE)):
            if not 1 <= version <= fold.version:
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

    def _compare_list(self, sound: Mapping[str, bool]) -> None:
        if self._scan.lacks("conversations") or self._scan.lacks("cursors"):
            return  # there is nothing that the list could be compared with, and that has been told
        listed = self._scan.listed()
        for conversation, fold in self._folds.items():
            if not sound[conversation] or fold.line is None:
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
                for column, there, right in zip(_LISTED, found, fold.line, strict=True)
                if there != right or type(there) is not type(right)
            ]
            if wrong:
                what = sentence(
                    "the list of conversations says other than the events: {differences}",
                    differences=", ".join(wrong),
                )
                self._tell(what, conversation)
        for conversation in sorted(listed.keys() - sound.keys()):
            what = sentence("it is in the list of conversations, and has no events")
            self._tell(what, conversation)
