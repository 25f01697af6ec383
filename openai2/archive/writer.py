"""Write conversations of a store into an archive (see `format`)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import IO

import msgspec

from openai2.archive.atomic_file import File, atomic_write
from openai2.archive.format import FORMAT, Chains, End, Exported, Header, Line, Progress
from openai2.core import events as ev
from openai2.errors import DamagedStore, UnknownConversation
from openai2.store import Reader, Store

_STEP = 1024  # events between two reports of progress


def export(store: Store, ids: Iterable[str] | None, file: File, progress: Progress | None = None) -> Exported:
    """Write the conversations with these *ids* (None: all), and those they descend from, to *file*.

    A path is written whole or not at all. Raises UnknownConversation, DamagedStore if an event does not match
    its hash, BadInput if the file cannot be written.
    """
    with store.reading(snapshot=True) as reader, atomic_write(file) as out:
        return _Export(reader, progress).write(None if ids is None else list(ids), out)


class _Export:
    def __init__(self, reader: Reader, progress: Progress | None) -> None:
        self._reader = reader
        self._progress = progress
        self._firsts = {
            record.conversation: record for record in reader.events_of_types(("created", "forked"))
        }
        self._forks = {
            name: record.event for name, record in self._firsts.items() if isinstance(record.event, ev.Forked)
        }

    def write(self, ids: list[str] | None, out: IO[bytes]) -> Exported:
        order, added = self._choose(ids)
        total = sum(self._reader.head(name)[0] for name in order)
        out.write(msgspec.json.encode(Header("archive", FORMAT, len(order), total)) + b"\n")
        redacted = {
            (record.conversation, record.event.version): record.event
            for record in self._reader.events_of_types(("redacted",))
            if isinstance(record.event, ev.Redacted)
        }
        chains = Chains(redacted, self._forks)
        encode = msgspec.json.Encoder().encode
        done = 0
        for name in order:
            for record in self._reader.events(name):
                _check(chains, record)
                line = Line(
                    *(name, record.version, record.batch, record.type, record.time),
                    *(record.json.decode(), record.hash),
                )
                out.write(encode(line) + b"\n")
                done += 1
                if self._progress is not None and not done % _STEP:
                    self._progress(done, total)
        out.write(msgspec.json.encode(End(chains.heads), order="deterministic") + b"\n")
        if self._progress is not None:
            self._progress(done, total)
        return Exported(conversations=len(order), events=done, added=added)

    def _choose(self, ids: list[str] | None) -> tuple[list[str], list[str]]:
        """Return the conversations in the archive's order, and the ancestors among them not in *ids*."""
        chosen = set(self._firsts if ids is None else ids)
        for name in chosen:
            if name not in self._firsts:
                raise UnknownConversation("there is no conversation {reference}", reference=name)
        names = set(chosen)
        for name in chosen:
            while name in self._forks and (parent := self._forks[name].parent) not in names:
                names.add(parent)
                name = parent
        children: dict[str, list[str]] = {}
        ready: list[tuple[str, str]] = []  # (time of the first event, id): a heap
        for name in names:
            if name in self._forks:
                children.setdefault(self._forks[name].parent, []).append(name)
            else:
                heapq.heappush(ready, (self._firsts[name].time, name))
        order: list[str] = []
        while ready:
            _, name = heapq.heappop(ready)
            order.append(name)
            for child in children.get(name, ()):
                heapq.heappush(ready, (self._firsts[child].time, child))
        return order, sorted(names - chosen)


def _check(chains: Chains, record: ev.Recorded) -> None:
    try:
        chains.check(record)
    except ValueError as error:
        raise DamagedStore(
            "conversation {conversation} is damaged at version {version} and cannot be exported: {reason}",
            conversation=record.conversation,
            version=record.version,
            reason=str(error),
        ) from None
