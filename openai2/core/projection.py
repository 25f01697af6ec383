"""The fold: events in, the view out.

Rules: no I/O; the view at version v is a function of the first v events and of nothing else. The view
holds ids, not texts, so that a state costs a few bytes a message and a redacted text is in no state.

Two kinds of event refer to a view that stood earlier (`forked`, `restored`). Whoever folds hands that
view in; `replay` does so for a whole stream, the engine does it from snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg

Earlier = Callable[[int], "View"]

#: The events that change the view.
CHANGES: frozenset[type[ev.Event]] = frozenset(
    (
        *(ev.MessageAdded, ev.Pinned, ev.Unpinned, ev.RolledBack, ev.Truncated, ev.Restored, ev.Forked),
        *(ev.RoleSet, ev.RemarkAdded),
    )
)
_FEW = 8  # spans that are looked for one by one


class View:
    """The messages that a model would be sent, as ids, and what else a rollback could bring back.

    *ids* in the order in which they are sent; *kinds* one letter each (see `messages`); *pins* the ids
    that are pinned; *roles* and *remarks* a group chat's: the id of the event that describes each role,
    and the ids of the remarks that no request has used yet.
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

    __hash__ = None  # type: ignore[assignment]  # a view changes as it folds

    def __repr__(self) -> str:
        return f"<View of {len(self.ids)} messages, {len(self.pins)} pinned>"

    def copy(self) -> View:
        """A view of one's own with the same content."""
        twin = View()
        twin.become(self)
        return twin

    def become(self, other: View) -> None:
        """Take over the content of *other*."""
        self.ids = other.ids.copy()
        self.kinds = other.kinds.copy()
        self.pins = other.pins.copy()
        self.roles = other.roles.copy()
        self.remarks = other.remarks.copy()

    # -- the fold

    def apply(self, event: ev.Event, number: int, earlier: Earlier | None = None) -> None:
        """Fold one more event in. *number* is its id: the id that a message it adds will have.

        *earlier* gives the view at a version that `forked` (of the parent) or `restored` names.
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
        """`apply` of a message, for whoever may know its *kind*."""
        if event.request is not None and event.answer is None:
            return  # a question on record; it joins with its answer
        if event.question:
            self.ids.extend(event.question)
            self.kinds.extend(event.kinds or msg.USER * len(event.question))
        if event.remarks:
            used = set(event.remarks)
            self.remarks = [remark for remark in self.remarks if remark not in used]
        self.ids.append(number)
        self.kinds.append(msg.kind_of(event.message) if kind is None else kind)

    def remove(self, spans: Iterable[ev.Span]) -> list[int]:
        """Take the messages of *spans* out; their ids. Raises ValueError where one is not in the view."""
        wanted = list(spans)
        gone = self._swept(wanted) if len(wanted) > _FEW else None
        if gone is None:
            gone = []
            for first, last in reversed(wanted):
                ids = self.ids
                if ids and ids[0] == first:  # what a truncation takes stands in front
                    start, stop = 0, _first_index(ids, last) + 1
                else:
                    stop = _last_index(ids, last) + 1
                    start = _last_index(ids, first)
                gone = ids[start:stop] + gone
                del ids[start:stop]
                del self.kinds[start:stop]
        if self.pins:
            self.pins.difference_update(gone)
        return gone

    def _swept(self, spans: Sequence[ev.Span]) -> list[int] | None:
        """Take out many spans at once, as pins part what leaves into; None where they are out of order."""
        places = {number: index for index, number in enumerate(self.ids)}
        ids: list[int] = []
        kinds: list[str] = []
        gone: list[int] = []
        done = 0
        for first, last in spans:
            start, stop = places.get(first, -1), places.get(last, -1) + 1
            if not done <= start < stop:
                return None
            ids += self.ids[done:start]
            kinds += self.kinds[done:start]
            gone += self.ids[start:stop]
            done = stop
        self.ids = ids + self.ids[done:]
        self.kinds = kinds + self.kinds[done:]
        return gone

    # -- what decisions ask

    def pinned_at(self, index: int) -> bool:
        """Whether the message at *index* is pinned."""
        return self.ids[index] in self.pins

    def spans(self, indexes: Sequence[int]) -> list[ev.Span]:
        """The messages at these ascending *indexes* as spans."""
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
        """The indexes at which rounds begin, those of the user messages; of the *last* rounds only."""
        starts: list[int] = []
        for index in range(len(self.kinds) - 1, -1, -1):
            if len(starts) == last:
                break
            if self.kinds[index] == msg.USER:
                starts.append(index)
        return starts[::-1]

    def units(self, start: int = 0) -> Iterator[range]:
        """The stretches that truncation keeps or drops whole: a message, or a call with its results."""
        index = start
        while index < len(self.kinds):
            end = index + 1
            if self.kinds[index] == msg.CALLS:
                while end < len(self.kinds) and self.kinds[end] == msg.TOOL:
                    end += 1
            yield range(index, end)
            index = end


def _last_index(ids: list[int], wanted: int) -> int:
    """Where *wanted* stands, looked for from the end, since that is where rollbacks happen."""
    for index in range(len(ids) - 1, -1, -1):
        if ids[index] == wanted:
            return index
    raise ValueError(f"message {wanted} does not stand in the view")


def _first_index(ids: list[int], wanted: int) -> int:
    """The same, looked for from the beginning."""
    try:
        return ids.index(wanted)
    except ValueError:
        raise ValueError(f"message {wanted} does not stand in the view") from None


def earlier_version(event: ev.Event) -> int | None:
    """The version of this very stream whose view the event brings back, if it is such an event."""
    return event.version if isinstance(event, ev.Restored) else None


def replay(
    stream: Sequence[tuple[int, ev.Event]], base: int = 0, inherited: View | None = None
) -> Iterator[tuple[int, View]]:
    """Fold a whole stream from nothing; after each event, its version and the view (not a copy).

    *stream* holds (version, event) from version 1 on, *base* the id of the last inherited event, and
    *inherited* the parent's view for a stream that begins with `forked`.
    """
    wanted = {event.version for _, event in stream if isinstance(event, ev.Restored)}
    kept: dict[int, View] = {0: View()}
    view = View()

    for version, event in stream:
        source = kept
        if isinstance(event, ev.Forked) and inherited is not None:
            source = {event.version: inherited}
        view.apply(event, base + version, source.__getitem__)
        if version in wanted:
            kept[version] = view.copy()
        yield version, view


# -- snapshots: a view in few bytes

#: Snapshots take at most this share of the bytes that events take.
SNAPSHOT_SHARE = 1 / 16
#: Bytes of a row besides its data: what a short event weighs.
ROW_OVERHEAD = 120
#: Bytes of events that are read faster than any snapshot is worth.
LEAST_TAIL = 24_000


def worth_saving(view: View, tail: int) -> bool:
    """Whether a snapshot of *view* pays after *tail* bytes of events since the last one."""
    return tail >= least_tail(view)


def least_tail(view: View) -> int:
    """How many bytes of events have to lie after the last snapshot until one of *view* pays.

    What it takes is guessed from above, so that packing the view in vain is spared.
    """
    names = 12 * len(view.roles) + 6 * len("".join(view.roles))
    guess = 4 * len(view.ids) + 8 * (len(view.pins) + len(view.remarks)) + names + ROW_OVERHEAD
    return max(LEAST_TAIL, int(guess / SNAPSHOT_SHARE))


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    steps: list[int]
    kinds: str
    pins: list[int]
    roles: dict[str, int]
    remarks: list[int]


_pack = msgspec.json.Encoder().encode
_unpack = msgspec.json.Decoder(_Packed).decode


def pack(view: View) -> bytes:
    """The view as JSON: ids as steps from one to the next, since those are small."""
    ids = view.ids
    steps = [after - before for before, after in zip([0, *ids], ids, strict=False)]
    return _pack(_Packed(steps, "".join(view.kinds), sorted(view.pins), view.roles, view.remarks))


def unpack(packed: bytes) -> View:
    """The view that was packed. Raises msgspec.DecodeError or ValueError where it is damaged."""
    data = _unpack(packed)
    if len(data.steps) != len(data.kinds):
        raise ValueError("a packed view has as many kinds as ids")
    view = View()
    total = 0
    for step in data.steps:
        total += step
        view.ids.append(total)
    view.kinds = list(data.kinds)
    view.pins = set(data.pins)
    view.roles = data.roles
    view.remarks = data.remarks
    return view
