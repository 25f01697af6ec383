"""Find the stream that holds an event id: a conversation's own events, and before them its ancestors'.

Invariant: ids count on through forks, so each id belongs to exactly one part of a lineage.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from openai2.core import events as ev
from openai2.errors import DamagedStore
from openai2.store import Reader


class Part(NamedTuple):
    """A stretch of a lineage: the ids above *after*, up to *upto*, are events of *conversation*."""

    after: int
    upto: int | None
    conversation: str


class Lineage:
    """The parts of a conversation's history, root first; the last part is the conversation itself.

    *base* is the id of the last inherited event, 0 for a root: an id is *base* plus a version.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.conversation = parts[-1].conversation
        self.base = parts[-1].after
        self._starts = [part.after for part in parts]

    @classmethod
    def root(cls, conversation: str) -> Lineage:
        """Return the lineage of a conversation that is not a fork."""
        return cls([Part(0, None, conversation)])

    @classmethod
    def read(cls, reader: Reader, conversation: str) -> Lineage:
        """Read the lineage of a conversation. Raises DamagedStore if it descends from itself."""
        chain: list[tuple[str, ev.Forked]] = []
        visited: set[str] = set()
        current = conversation
        while True:
            first = next(reader.events(current, limit=1), None)
            event = first.event if first is not None else None
            if not isinstance(event, ev.Forked):
                break
            if current in visited:
                raise DamagedStore("conversation {conversation} descends from itself", conversation=current)
            visited.add(current)
            chain.append((current, event))
            current = event.parent
        parts: list[Part] = []
        after = 0
        for child, forked in reversed(chain):
            parts.append(Part(after, after + forked.version, current))
            current, after = child, after + forked.version
        return cls([*parts, Part(after, None, current)])

    def fork(self, conversation: str, version: int) -> Lineage:
        """Return the lineage of a fork at *version* of this conversation's own stream."""
        last = self.base + version
        shared = [*self.parts[:-1], Part(self.base, last, self.conversation)]
        return Lineage([*shared, Part(last, None, conversation)])

    def parent(self) -> Lineage | None:
        """Return the parent's lineage, None for a root."""
        if len(self.parts) == 1:
            return None
        *older, parent, _ = self.parts
        return Lineage([*older, Part(parent.after, None, parent.conversation)])

    def place(self, number: int) -> tuple[str, int]:
        """Return (conversation, version) of the event with that id."""
        part = self.parts[self._index(number)]
        return part.conversation, number - part.after

    def places(self, numbers: Iterable[int]) -> Iterator[tuple[Part, list[int]]]:
        """Yield each part that holds some of these ids, with the versions to look up there."""
        if len(self.parts) == 1:
            yield self.parts[0], list(numbers)
            return
        by_part: dict[int, list[int]] = {}
        for number in numbers:
            index = self._index(number)
            by_part.setdefault(index, []).append(number - self.parts[index].after)
        for index, versions in by_part.items():
            yield self.parts[index], versions

    def _index(self, number: int) -> int:
        return max(0, bisect_right(self._starts, number - 1) - 1)
