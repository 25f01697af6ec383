"""Verifying a store: every hash, number, reference and derived table against the events themselves.

Rules:
- Nothing that is derived is believed, and nothing is repaired; only SELECTs are run, in one transaction, so
  that the log stands still while others go on.
- Two passes over the log in the order of its commit: the chain is recomputed through forks (`chaincheck`),
  and the streams that fit are folded from nothing (`recount`); what is derived is compared in the end. Memory
  holds a few hundred bytes a conversation, and the views of those that have begun at that point and not
  ended. SQLite checks the file meanwhile (`filecheck`).
- Of a long log, another process makes the first pass while this one makes the second (`beside`), as if all
  were sound. If it is not, what came of that is dropped, and both are made here, one after the other.
- One fault gives one problem, or few: where a whole stretch does not fit, its first event is named.

A chain cannot notice by itself that the end of the last stream was cut off. Whoever keeps heads elsewhere
(`heads`) hands them in, and they must still be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec

from openai2.audit.chain import ChainCheck, Found
from openai2.audit.content import Recount
from openai2.audit.prescan import Beforehand
from openai2.audit.sqlite_check import FileCheck, reason_of
from openai2.audit.worker import Beside, Moved
from openai2.audit.worker_process import Unsound, begin_anew
from openai2.errors import BadInput, DamagedStore, NotAStore
from openai2.sentence import Sentence, sentence
from openai2.store import NO_HASH, Store, fulltext
from openai2.store.audit_reader import Scan, text

Progress = Callable[[int, int], None]
Heads = Mapping[str, str] | Iterable[str]

_STEP = 1024  # events between two reports of progress

#: So many problems are told; what has more is beyond telling.
MOST = 1000


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. *version* and *position* are None where it is not one event's.

    *what* says it in English: *template* with *facts* in its `{named}` places, which may be said in
    another language.
    """

    conversation: str | None = None
    version: int | None = None
    position: int | None = None
    what: str
    template: str
    facts: dict[str, Any] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit found: `ok`, or the *problems*; and of how many conversations and events."""

    ok: bool
    conversations: int
    events: int
    problems: list[Problem]


def verify(store: Store, heads: Heads | None = None, progress: Progress | None = None) -> Report:
    """Check the whole store. *heads* were kept elsewhere: hashes, or conversation ids with theirs.

    Raises BadInput where a head is no hash, StoreUnavailable where the file cannot be read at all; damage
    of the file is a problem in the report.
    """
    wanted = _wanted(heads)
    audit = _Audit(progress or _nobody)
    with Beside(store, {head for _, head in wanted}) as beside, FileCheck(store) as file:
        try:
            with store.reading(still=True) as reader:
                scan = Scan(reader)
                try:
                    audit.run(scan, wanted, beside)
                except Moved:  # it has started now, and can begin when we do
                    begin_anew(reader)
                    audit.run(scan, wanted, beside)
                flaws = [] if scan.lacks("cursors") else fulltext.flaws(reader, MOST)
            if flaws:
                what = (
                    "the full-text index lacks messages (in {n} places)"
                    if flaws[0].missing
                    else "the full-text index has words of events that hold none (in {n} places)"
                )
                audit.tell(sentence(what, n=len(flaws)), position=flaws[0].position)
            reasons: list[str] = []
        except (NotAStore, DamagedStore) as damage:
            reasons = [reason_of(damage)]
        for reason in dict.fromkeys((*file.reasons(), *reasons)):
            audit.tell(sentence("the file is damaged: {reason}", reason=reason))
    return Report(
        ok=not audit.problems,
        conversations=audit.conversations,
        events=audit.events,
        # What was done to events first: what else is not as it should be matters less.
        problems=sorted(audit.problems, key=lambda one: one.conversation is None and one.position is None),
    )


def _nobody(done: int, total: int) -> None:
    """Progress that nobody watches."""


def _wanted(heads: Heads | None) -> list[tuple[str | None, bytes]]:
    if heads is None:
        return []
    if isinstance(heads, str):
        heads = [heads]
    pairs: list[tuple[str | None, str]]
    if isinstance(heads, Mapping):
        pairs = list(cast("Mapping[str | None, str]", heads).items())
    else:
        pairs = [(None, head) for head in heads]
    wanted: list[tuple[str | None, bytes]] = []
    for conversation, head in pairs:
        try:
            raw = bytes.fromhex(head)
        except (TypeError, ValueError):
            raw = b""
        if len(raw) != len(NO_HASH):
            raise BadInput("{head} is no head: 64 hexadecimal digits are", head=str(head))
        wanted.append((conversation, raw))
    return wanted


class _Audit:
    def __init__(self, progress: Progress) -> None:
        self.problems: list[Problem] = []
        self.conversations = 0
        self.events = 0
        self._progress = progress
        self._done = 0

    def tell(
        self,
        what: Sentence,
        conversation: str | None = None,
        version: int | None = None,
        position: int | None = None,
    ) -> None:
        """Put a problem into the report."""
        if len(self.problems) > MOST:
            return
        if len(self.problems) == MOST:
            what = sentence("there are more problems than these")
            conversation = version = position = None
        self.problems.append(
            Problem(
                conversation=conversation,
                version=version,
                position=position,
                what=str(what),
                template=what.template,
                facts=what.facts,
            )
        )

    def run(self, scan: Scan, heads: list[tuple[str | None, bytes]], beside: Beside) -> None:
        """Both passes, the first *beside* where that goes. Raises Moved where it is to be run again."""
        self.problems.clear()
        together = beside.hold(scan.reader)
        for what in (*scan.strange_schema(), *scan.strange_derived()):
            self.tell(what)
        self.events, last = scan.size()
        if not scan.is_numbered():
            self.tell(
                sentence(
                    "the table events no longer numbers its rows by position, so its events cannot be told"
                )
            )
            return
        before = Beforehand(scan.noted())
        if not together or not self._run_beside(beside, scan, heads, before, last):
            self._run_alone(scan, heads, before, last)
        self._progress(self.events, self.events)

    def _run_beside(
        self,
        beside: Beside,
        scan: Scan,
        heads: list[tuple[str | None, bytes]],
        before: Beforehand,
        last: int,
    ) -> bool:
        """The second pass, while the first is made elsewhere; False, and nothing told, where that one finds
        anything, or does not come to its end."""

        def progress(done: int) -> None:
            self._step(done)
            beside.watch()

        told = len(self.problems)
        recount = Recount(scan, self.tell, before)
        recount.begin(last)
        try:
            recount.fold(scan.meant(of_any_type=True), (), progress)
            found = beside.found(self.events)
        except (Unsound, TypeError):  # as where a column is of another type, which is found there
            del self.problems[told:]
            return False
        self.conversations = recount.streams
        self._tell_heads(heads, found)
        recount.finish(())
        return True

    def _run_alone(
        self, scan: Scan, heads: list[tuple[str | None, bytes]], before: Beforehand, last: int
    ) -> None:
        """Both passes, one after the other."""
        chain, recount = ChainCheck(scan, self.tell, before), Recount(scan, self.tell, before)
        recount.begin(last)
        found = chain.read(scan.rows(), {head for _, head in heads}, lambda done: self._step(done // 2))
        self.conversations = len(chain.streams)
        odd = self._tell_odd(scan) if chain.count < self.events else set[int]()
        self._tell_holes(chain, odd)
        self._tell_heads(heads, found)
        unsound = {name for name, stream in chain.streams.items() if not stream.sound}
        recount.fold(scan.meant(), unsound, lambda done: self._step((self.events + done) // 2))
        recount.finish(unsound)

    def _step(self, done: int) -> None:
        """Tell of progress now and then."""
        if done >= self._done + _STEP:
            self._done = done
            self._progress(done, self.events)

    # -- what lies between events

    def _tell_odd(self, scan: Scan) -> set[int]:
        """Rows with columns of a wrong type; their positions."""
        found = scan.odd(MOST)
        for odd in found:
            what = sentence("a column is of the wrong type: {differences}", differences=odd.what)
            self.tell(what, odd.conversation, odd.version, odd.position)
        return {odd.position for odd in found}

    def _tell_holes(self, chain: ChainCheck, odd: set[int]) -> None:
        """Positions that nobody has, unless a gap in a stream has told of them already."""
        for start, size in chain.holes:
            if any(position in odd for position in range(start, start + min(size, MOST))):
                continue
            stop = start + size
            told = sum(missing for low, high, missing in chain.gaps if low < stop and high >= start)
            if told < size:
                what = (
                    sentence("no event has the position {first}: one was removed", first=start)
                    if size == 1
                    else sentence(
                        "no event has the positions {first} to {last}: some were removed",
                        first=start,
                        last=stop - 1,
                    )
                )
                self.tell(what, position=start)

    def _tell_heads(self, heads: list[tuple[str | None, bytes]], found: Found) -> None:
        for conversation, head in heads:
            places = [text(name) for name, _ in found[head]]
            if conversation is None and not places:
                what = "no event has the head {head}: the tail was cut off, or changed"
                self.tell(sentence(what, head=head.hex()))
            elif conversation is not None and conversation not in places:
                what = "it has no event with the head {head}: its tail was cut off, or changed"
                self.tell(sentence(what, head=head.hex()), conversation)
