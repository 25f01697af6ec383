"""Writing an archive: conversations out of a store into one file (see `archive`)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import IO

import msgspec

from openai2.archive.atomic_file import File, written
from openai2.archive.format import FORMAT, Chains, End, Exported, Header, Line, Progress
from openai2.core import events as ev
from openai2.errors import DamagedStore, UnknownConversation
from openai2.store import Reader, Store

_STEP = 1024


def export(store: Store, ids: Iterable[str] | None, file: File, progress: Progress | None = None) -> Exported:
    """Write the conversations with these *ids* (None: all), and what they descend from, to *file*.

    A path is written whole or not at all. Raises UnknownConversation, DamagedStore where the store is not
    sound, BadInput where the file cannot be written.
    """
    with store.reading(still=True) as reader, written(file) as out:
        return _Export(reader, progress or _nobody).write(None if ids is None else list(ids), out)


def _nobody(done: int, total: int) -> None:
    """Progress that nobody watches."""


class _Export:
    def __init__(self, reader: Reader, progress: Progress) -> None:
        self._reader = reader
        self._progress = progress
        self._firsts = {
            record.conversation: record for record in reader.events_of_types(("created", "forked"))
        }
        self._forks = {
            name: record.event for name, record in self._firsts.items() if isinstance(record.event, ev.Forked)
        }

    def write(self, ids: list[str] | None, out: IO[bytes]) -> Exported:
        order, added = self._chosen(ids)
        sizes = {name: self._reader.head(name)[0] for name in order}
        header = Header("archive", FORMAT, len(order), sum(sizes.values()))
        encoder = msgspec.json.Encoder(order="deterministic")
        plain = msgspec.json.Encoder()
        out.write(plain.encode(header) + b"\n")
        redacted = {
            (record.conversation, record.event.version): record.event
            for record in self._reader.events_of_types(("redacted",))
            if isinstance(record.event, ev.Redacted)
        }
        chains = Chains(redacted, self._forks)
        done = 0
        for name in order:
            for record in self._reader.events(name):
                self._check(chains, record)
                line = Line(
                    *(name, record.version, record.batch, record.type, record.time),
                    *(record.json.decode(), record.hash),
                )
                out.write(plain.encode(line) + b"\n")
                done += 1
                if not done % _STEP:
                    self._progress(done, header.events)
        out.write(encoder.encode(End(chains.heads)) + b"\n")
        self._progress(done, header.events)
        return Exported(conversations=len(order), events=done, added=added)

    def _check(self, chains: Chains, record: ev.Recorded) -> None:
        try:
            chains.enter(record)
        except ValueError as fault:
            raise DamagedStore(
                "conversation {conversation} is damaged at version {version}, and is not exported: {reason}",
                conversation=record.conversation,
                version=record.version,
                reason=str(fault),
            ) from None

    def _chosen(self, ids: list[str] | None) -> tuple[list[str], list[str]]:
        """The conversations in the archive's order, and those that nobody asked for."""
        wanted = set(self._firsts if ids is None else ids)
        for name in wanted:
            if name not in self._firsts:
                raise UnknownConversation("there is no conversation {reference}", reference=name)
        whole = set(wanted)
        for name in wanted:
            while name in self._forks and (parent := self._forks[name].parent) not in whole:
                whole.add(parent)
                name = parent
        children: dict[str, list[str]] = {}
        ready: list[tuple[str, str]] = []
        for name in whole:
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
        return order, sorted(whole - wanted)
