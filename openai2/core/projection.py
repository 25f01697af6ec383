"""The fold: from events to the view.

Invariants:
- No I/O. The view at version v is a function of the first v events.
- A view holds ids, not texts, so that a redacted text is in no view or snapshot.
- `forked` and `restored` events refer to an earlier view, which the caller passes in: `replay` for a whole
  stream, `history.views` from snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from openai2.core import events as ev
from openai2.core import messages as msg

#: From a version to the view at that version.
Earlier = Callable[[int], "View"]

#: The events that change the view.
CHANGES: frozenset[type[ev.Event]] = frozenset(
    (
        *(ev.MessageAdded, ev.Pinned, ev.Unpinned, ev.RolledBack, ev.Truncated, ev.Restored, ev.Forked),
        *(ev.RoleSet, ev.RemarkAdded),
    )
)
_FEW = 8  # up to so many spans are searched for one by one


class View:
    """The messages that a model would be sent, as ids.

    - *ids*: in the order in which they are sent;
    - *kinds*: one letter for each id (see `messages`);
    - *pins*: the ids that are pinned;
    - *roles*: of a group chat, the id of the event that describes each role;
    - *remarks*: of a group chat, the ids of the remarks that no request has used yet.
    """

    __slots__ = ("ids", "kinds", "pins", "remarks", "roles")

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.kinds: list[str] = []
        self.pins: set[int] = set()
        self.roles: dict[str, int] = {}
        self.remarks: list[int] = []

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and all(
            getattr(self, name) == getattr(other, name) for name in View.__slots__
        )

    __hash__ = None  # type: ignore[assignment]  # views are mutable

    def __repr__(self) -> str:
        return f"<View of {len(self.ids)} messages, {len(self.pins)} pinned>"

    def copy(self) -> View:
        """Return an independent view with the same content."""
        twin = View()
        twin.become(self)
        return twin

    def become(self, other: View) -> None:
        """Replace the content of this view by a copy of that of *other*."""
        self.ids = other.ids.copy()
        self.kinds = other.kinds.copy()
        self.pins = other.pins.copy()
        self.roles = other.roles.copy()
        self.remarks = other.remarks.copy()

    # -- the fold

    def apply(self, event: ev.Event, number: int, earlier: Earlier | None = None) -> None:
        """Fold *event*, whose id is *number*, into this view.

        *earlier* returns the view at the version that `restored`, or `forked` (of the parent), names.
        Raises ValueError if it is needed and missing, or if a removed message is not in the view.
        """
        if type(event) not in CHANGES:
            return
        if isinstance(event, ev.MessageAdded):
            self.add(event, number)
        elif isinstance(event, ev.Pinned):
            self.pins.update(event.messages)
        elif isinstance(event, ev.Unpinned):
            self.pins.difference_update(event.messages)
        elif isinstance(event, (ev.RolledBack, ev.Truncated)):
            self.remove(event.spans)
            if isinstance(event, ev.RolledBack) and event.remarks:
                self.remarks = sorted({*self.remarks, *event.remarks})
        elif isinstance(event, (ev.Restored, ev.Forked)):
            if earlier is None:
                raise ValueError(f"a {event.type} event needs the view that it names")
            self.become(earlier(event.version))
        elif isinstance(event, ev.RoleSet):
            self.roles.pop(event.name, None)
            if event.description is not None:
                self.roles[event.name] = number
        elif isinstance(event, ev.RemarkAdded):
            self.remarks.append(number)

    def add(self, event: ev.MessageAdded, number: int, kind: str | None = None) -> None:
        """Fold a message; *kind* spares decoding it. Raises ValueError if its place is not in the view."""
        if not event.joins_view:
            return
        if event.remarks:
            used = set(event.remarks)
            self.remarks = [remark for remark in self.remarks if remark not in used]
        if kind is None:
            kind = msg.kind_of(event.message)
        kinds = event.kinds or msg.USER * len(event.question)
        if event.after is not None:
            place = _last_index(self.ids, event.after) + 1
            self.ids[place:place] = [*event.question, number]
            self.kinds[place:place] = [*kinds, kind]
            return
        if event.question:
            self.ids.extend(event.question)
            self.kinds.extend(kinds)
        self.ids.append(number)
        self.kinds.append(kind)

    def remove(self, spans: Iterable[ev.Span]) -> list[int]:
        """Remove the messages of *spans*; return their ids. Raises ValueError if one is not in the view."""
        spans = list(spans)
        removed = self._remove_in_one_pass(spans) if len(spans) > _FEW else None
        if removed is None:
            removed = []
            for first, last in reversed(spans):
                ids = self.ids
                if ids and ids[0] == first:  # a truncation removes from the front
                    start, stop = 0, _first_index(ids, last) + 1
                else:
                    stop = _last_index(ids, last) + 1
                    start = _last_index(ids, first)
                removed = ids[start:stop] + removed
                del ids[start:stop]
                del self.kinds[start:stop]
        if self.pins:
            self.pins.difference_update(removed)
        return removed

    def _remove_in_one_pass(self, spans: Sequence[ev.Span]) -> list[int] | None:
        """Remove many spans; None, and nothing removed, if they are not in ascending order."""
        places = {number: index for index, number in enumerate(self.ids)}
        ids: list[int] = []
        kinds: list[str] = []
        removed: list[int] = []
        done = 0
        for first, last in spans:
            start, stop = places.get(first, -1), places.get(last, -1) + 1
            if not done <= start < stop:
                return None
            ids += self.ids[done:start]
            kinds += self.kinds[done:start]
            removed += self.ids[start:stop]
            done = stop
        self.ids = ids + self.ids[done:]
        self.kinds = kinds + self.kinds[done:]
        return removed

    # -- what decisions need

    def is_pinned(self, index: int) -> bool:
        """Return True if the message at *index* is pinned."""
        return self.ids[index] in self.pins

    def last_unit(self) -> int:
        """Return how many messages at the view's end truncation keeps or removes together."""
        end = len(self.kinds)
        start = end - 1
        while start > 0 and self.kinds[start] == msg.TOOL:
            start -= 1
        return end - start if start >= 0 and self.kinds[start] == msg.CALLS else min(end, 1)

    def spans(self, indexes: Sequence[int]) -> list[ev.Span]:
        """Return the messages at these ascending *indexes* as spans of ids."""
        spans: list[ev.Span] = []
        start = previous = -2
        for index in indexes:
            if index != previous + 1:
                if start >= 0:
                    spans.append((self.ids[start], self.ids[previous]))
                start = index
            previous = index
        if start >= 0:
            spans.append((self.ids[start], self.ids[previous]))
        return spans

    def round_starts(self, last: int | None = None) -> list[int]:
        """Return the indexes of the user messages, with which rounds begin; only of the *last* rounds."""
        starts: list[int] = []
        for index in range(len(self.kinds) - 1, -1, -1):
            if len(starts) == last:
                break
            if self.kinds[index] == msg.USER:
                starts.append(index)
        return starts[::-1]

    def units(self) -> Iterator[range]:
        """Yield what truncation keeps or removes whole: a message, or a call and its results, as indexes."""
        index = 0
        while index < len(self.kinds):
            end = index + 1
            if self.kinds[index] == msg.CALLS:
                while end < len(self.kinds) and self.kinds[end] == msg.TOOL:
                    end += 1
            yield range(index, end)
            index = end


def _last_index(ids: list[int], number: int) -> int:
    """Return the index of *number*, searched from the end, since rollbacks remove there."""
    for index in range(len(ids) - 1, -1, -1):
        if ids[index] == number:
            return index
    raise ValueError(f"message {number} is not in the view")


def _first_index(ids: list[int], number: int) -> int:
    """Return the index of *number*, searched from the beginning."""
    try:
        return ids.index(number)
    except ValueError:
        raise ValueError(f"message {number} is not in the view") from None


def replay(
    stream: Sequence[tuple[int, ev.Event]], base: int = 0, inherited: View | None = None
) -> Iterator[tuple[int, View]]:
    """Fold a whole stream; after each event, yield its version and the view (the same object, not a copy).

    *stream* holds (version, event) from version 1 on, *base* is the id of the last inherited event, and
    *inherited* the parent's view for a stream that begins with `forked`.
    """
    restored = {event.version for _, event in stream if isinstance(event, ev.Restored)}
    kept: dict[int, View] = {0: View()}
    view = View()
    for version, event in stream:
        source = kept
        if isinstance(event, ev.Forked) and inherited is not None:
            source = {event.version: inherited}
        view.apply(event, base + version, source.__getitem__)
        if version in restored:
            kept[version] = view.copy()
        yield version, view
