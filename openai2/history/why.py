"""Explain a view: why each message is in it or not, and what another limit would leave of it."""

from __future__ import annotations

import msgspec

from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View
from openai2.core.snapshot import pack, unpack
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.store import Reader


class Cause(msgspec.Struct, frozen=True):
    """An event that put a message into the view, or took it out."""

    conversation: str
    version: int
    type: str
    time: str


class Why(msgspec.Struct, frozen=True):
    """A message that was ever added, with its id, and whether it is in view.

    *put_in* is the last event that put it in, None if it never was in view; *taken_out* the last event that
    took it out.
    """

    id: int
    message: msg.Message
    in_view: bool
    put_in: Cause | None
    taken_out: Cause | None


def why(reader: Reader, lineage: Lineage) -> list[Why]:
    """Return a `Why` for each message ever added in a lineage, in the order of ids."""
    ids: list[int] = []
    put_in: dict[int, Cause] = {}
    taken_out: dict[int, Cause] = {}
    view = View()
    for part in lineage.parts:  # a fork begins with the view at the end of its parent's part
        # Fix the last version now: another process may append between the queries.
        last = reader.head(part.conversation)[0] if part.upto is None else part.upto - part.after
        restored_versions = {
            record.event.version
            for record in reader.events(part.conversation, upto=last, types=("restored",))
            if isinstance(record.event, ev.Restored)
        }
        earlier: dict[int, bytes] = {}
        for record in reader.events(part.conversation, upto=last):
            event, number = record.event, part.after + record.version
            cause = Cause(part.conversation, record.version, record.type, record.time)
            if isinstance(event, ev.MessageAdded):
                ids.append(number)
                view.apply(event, number)
                if event.joins_view:
                    put_in.update(dict.fromkeys([*event.question, number], cause))
            elif isinstance(event, (ev.RolledBack, ev.Truncated)):
                taken_out.update(dict.fromkeys(view.remove(event.spans), cause))
            elif isinstance(event, ev.Restored):
                before = set(view.ids)
                view = unpack(earlier[event.version])
                after = set(view.ids)
                put_in.update(dict.fromkeys(after - before, cause))
                taken_out.update(dict.fromkeys(before - after, cause))
            elif not isinstance(event, ev.Forked):
                view.apply(event, number)
            if record.version in restored_versions:
                earlier[record.version] = pack(view)
    in_view = set(view.ids)
    texts = encoded_messages(reader, lineage, ids)
    return [
        Why(number, msg.decode(texts[number]), number in in_view, put_in.get(number), taken_out.get(number))
        for number in ids
    ]


def with_limit(view: View, limit: int) -> View:
    """Return the view that a request with this limit would leave. Raises BadInput below 1."""
    checked = decisions.check_limit(limit)
    assert checked is not None
    cut = view.copy()
    cut.remove(cut.spans(decisions.over(cut, checked)))
    return cut
