"""Verify a store: recompute every hash, number, reference and derived table from the events, and compare.

Invariants:
- Derived data is never trusted and never repaired. Only SELECTs run, in one read transaction.
- The log is read once, in the order of positions. Each run of rows of one stream goes through two checks:
  the chain (`chain`) and, while the chain of that stream is sound, the content (`content`).
- SQLite's own check of the file runs in a thread meanwhile (`sqlite_check`).
- Memory holds a few hundred bytes a conversation, and the views of the streams that have begun and not ended.
- One fault gives one problem, or few: of a damaged stretch, only the first event is named.

A chain cannot show that its last events were cut off. The caller passes *heads* that were kept elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import cast

from openai2.audit.chain import ChainCheck
from openai2.audit.content import ContentCheck
from openai2.audit.prescan import Prescan
from openai2.audit.report import MAX_PROBLEMS, Problems, Report
from openai2.audit.sqlite_check import SqliteCheck, damage_reason
from openai2.errors import BadInput, DamagedStore, NotAStore, lazy_message
from openai2.store import NO_HASH, Reader, Store, fulltext
from openai2.store.audit_reader import Scan

Progress = Callable[[int, int], None]
Heads = Mapping[str, str] | Iterable[str]
_ExpectedHead = tuple[str | None, bytes]  # (conversation id, hash)

_PROGRESS_STEP = 1024  # events between two calls of progress


def verify(store: Store, heads: Heads | None = None, progress: Progress | None = None) -> Report:
    """Check the whole store and return a report.

    *heads* are hashes, or conversation ids with their hashes. *progress* is called with (done, total) events.

    Raises BadInput if a head is not a hash, StoreUnavailable if the file cannot be read. Damage of the file
    does not raise: it is a problem in the report.
    """
    expected = _parse_heads(heads)
    problems = Problems()
    conversations = events = 0
    reasons: list[str] = []
    with SqliteCheck(store) as sqlite_check:
        try:
            with store.reading(snapshot=True) as reader:
                scan = Scan(reader)
                for what in (*scan.strange_schema(), *scan.strange_derived()):
                    problems.add(what)
                events, last_position = scan.size()
                if scan.is_numbered():
                    conversations = _check_events(scan, events, last_position, expected, problems, progress)
                else:
                    problems.add(
                        lazy_message(
                            "the table events does not number its rows by position: it cannot be checked"
                        )
                    )
                if not scan.lacks("cursors"):
                    _check_search_index(reader, problems)
        except (NotAStore, DamagedStore) as damage:
            reasons.append(damage_reason(damage))
        for reason in dict.fromkeys((*sqlite_check.reasons(), *reasons)):
            problems.add(lazy_message("the file is damaged: {reason}", reason=reason))
    return problems.report(conversations, events)


def _parse_heads(heads: Heads | None) -> list[_ExpectedHead]:
    if heads is None:
        return []
    if isinstance(heads, str):
        heads = [heads]
    pairs: list[tuple[str | None, str]]
    if isinstance(heads, Mapping):
        pairs = list(cast("Mapping[str | None, str]", heads).items())
    else:
        pairs = [(None, head) for head in heads]
    expected: list[_ExpectedHead] = []
    for conversation, head in pairs:
        try:
            raw = bytes.fromhex(head)
        except (TypeError, ValueError):
            raw = b""
        if len(raw) != len(NO_HASH):
            raise BadInput("invalid head {head}: expected 64 hexadecimal digits", head=str(head))
        expected.append((conversation, raw))
    return expected


def _check_events(
    scan: Scan,
    events: int,
    last_position: int,
    heads: list[_ExpectedHead],
    problems: Problems,
    progress: Progress | None,
) -> int:
    """Check all events, and what is derived from them; return the number of conversations."""
    prescan = Prescan(scan.noted())
    chain = ChainCheck(scan, problems, prescan, {head for _, head in heads})
    content = ContentCheck(scan, problems, prescan, last_position)
    done = reported = 0
    for page in scan.rows():
        for conversation, rows in groupby(page, itemgetter(0)):
            run = list(rows)
            if chain.check(conversation, run):
                content.fold(conversation, run)
        done += len(page)
        if progress is not None and done >= reported + _PROGRESS_STEP:
            reported = done
            progress(done, events)
    chain.finish()
    odd = _report_odd_rows(scan, problems) if done < events else set[int]()
    _report_holes(chain, odd, problems)
    _report_missing_heads(chain, heads, problems)
    content.finish(chain.unsound())
    if progress is not None:
        progress(events, events)
    return len(chain.streams)


def _report_odd_rows(scan: Scan, problems: Problems) -> set[int]:
    """Report rows that have a column of a wrong type; return their positions."""
    rows = scan.odd(MAX_PROBLEMS)
    for row in rows:
        what = lazy_message("a column is of the wrong type: {differences}", differences=row.what)
        problems.add(what, row.conversation, row.version, row.position)
    return {row.position for row in rows}


def _report_holes(chain: ChainCheck, odd: set[int], problems: Problems) -> None:
    """Report positions that no event has, unless a gap in a stream accounts for them."""
    for start, size in chain.holes:
        if any(position in odd for position in range(start, start + min(size, MAX_PROBLEMS))):
            continue
        stop = start + size
        explained = sum(missing for low, high, missing in chain.gaps if low < stop and high >= start)
        if explained >= size:
            continue
        if size == 1:
            what = lazy_message("no event has the position {first}: one was removed", first=start)
        else:
            what = lazy_message(
                "no event has the positions {first} to {last}: some were removed", first=start, last=stop - 1
            )
        problems.add(what, position=start)


def _report_missing_heads(chain: ChainCheck, heads: list[_ExpectedHead], problems: Problems) -> None:
    for conversation, head in heads:
        found = chain.heads[head]
        if conversation is None and not found:
            what = "no event has the head {head}: the tail was cut off, or changed"
            problems.add(lazy_message(what, head=head.hex()))
        elif conversation is not None and conversation not in found:
            what = "it has no event with the head {head}: its tail was cut off, or changed"
            problems.add(lazy_message(what, head=head.hex()), conversation)


def _check_search_index(reader: Reader, problems: Problems) -> None:
    flaws = fulltext.flaws(reader, MAX_PROBLEMS)
    if not flaws:
        return
    if flaws[0].missing:
        what = "the full-text index lacks messages (in {n} places)"
    else:
        what = "the full-text index has words of events without text (in {n} places)"
    problems.add(lazy_message(what, n=len(flaws)), position=flaws[0].position)
