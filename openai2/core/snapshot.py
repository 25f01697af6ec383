"""Snapshots: a view packed into few bytes, and when storing one pays.

Invariants: a snapshot is a cache. Without it the same view is folded from the events.
"""

from __future__ import annotations

import msgspec

from openai2.core.projection import View

#: Snapshots take at most this share of the bytes of the events.
SNAPSHOT_SHARE = 1 / 16
#: The bytes of a row besides its data.
ROW_OVERHEAD = 120
#: Fewer bytes of events than this are read faster than a snapshot.
LEAST_TAIL = 24_000


def worth_saving(view: View, tail: int) -> bool:
    """Return True if a snapshot of *view* pays after *tail* bytes of events since the last snapshot."""
    return tail >= least_tail(view)


def least_tail(view: View) -> int:
    """Return how many bytes of events since the last snapshot make one of *view* pay.

    The size of the snapshot is an upper estimate, so that no view is packed for nothing.
    """
    roles = 12 * len(view.roles) + 6 * len("".join(view.roles))
    estimate = 4 * len(view.ids) + 8 * (len(view.pins) + len(view.remarks)) + roles + ROW_OVERHEAD
    return max(LEAST_TAIL, int(estimate / SNAPSHOT_SHARE))


class _Packed(msgspec.Struct, array_like=True, frozen=True):
    steps: list[int]
    kinds: str
    pins: list[int]
    roles: dict[str, int]
    remarks: list[int]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Packed).decode


def pack(view: View) -> bytes:
    """Return the view as JSON. Ids are stored as differences, which are small."""
    ids = view.ids
    steps = [after - before for before, after in zip([0, *ids], ids, strict=False)]
    return _encode(_Packed(steps, "".join(view.kinds), sorted(view.pins), view.roles, view.remarks))


def unpack(packed: bytes) -> View:
    """Return the view that was packed. Raises msgspec.DecodeError or ValueError if it is damaged."""
    data = _decode(packed)
    if len(data.steps) != len(data.kinds):
        raise ValueError(f"expected {len(data.steps)} kinds in a packed view, got {len(data.kinds)}")
    view = View()
    number = 0
    for step in data.steps:
        number += step
        view.ids.append(number)
    view.kinds = list(data.kinds)
    view.pins = set(data.pins)
    view.roles = data.roles
    view.remarks = data.remarks
    return view
