"""Why a view is what it is, and where conversations come from.

Rules: `reasons`, `under` and `drawing` are pure: values in, values out. A family is drawn the way people know
it from `git log --graph`: the newest on top, a column for each conversation, a fork's line joining its
parent's where it began. No line is wider than it says, for East Asian characters too.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View, pack, unpack
from openai2.history.lineage import Lineage
from openai2.history.messages import encoded_messages
from openai2.store import Listed, Reader


class Cause(msgspec.Struct, frozen=True):
    """An event that put a message in, or took it out."""

    conversation: str
    version: int
    type: str
    time: str


class Why(msgspec.Struct, frozen=True):
    """A message that was ever added: its id and itself, whether it is in view, which event put it in last
    (None: it never was in), and which took it out last."""

    id: int
    message: msg.Message
    in_view: bool
    put_in: Cause | None
    taken_out: Cause | None


def why(reader: Reader, lineage: Lineage) -> list[Why]:
    """For each message ever added in a lineage, in the order of ids: is it in view, and why?"""
    ids: dict[int, None] = {}
    put_in: dict[int, Cause] = {}
    taken_out: dict[int, Cause] = {}
    view = View()
    for part in lineage.parts:  # a fork begins with the view that its parent's part ends with
        # The last one as far as it has come now: more may be appended between two questions.
        last = reader.head(part.conversation)[0] if part.upto is None else part.upto - part.after
        restored = reader.events(part.conversation, upto=last, types=("restored",))
        wanted = {
            event.version for event in (one.event for one in restored) if isinstance(event, ev.Restored)
        }
        kept: dict[int, bytes] = {}
        for record in reader.events(part.conversation, upto=last):
            event, number = record.event, part.after + record.version
            if isinstance(event, ev.MessageAdded):
                ids[number] = None
            cause = Cause(part.conversation, record.version, record.type, record.time)
            if isinstance(event, ev.MessageAdded):
                size = len(view)
                view.apply(event, number)
                put_in.update(dict.fromkeys(view.ids[size:], cause))
            elif isinstance(event, (ev.RolledBack, ev.Truncated)):
                taken_out.update(dict.fromkeys(view.remove(event.spans), cause))
            elif isinstance(event, ev.Restored):
                then = view
                view = unpack(kept[event.version])
                before, after = set(then.ids), set(view.ids)
                put_in.update(dict.fromkeys(after - before, cause))
                taken_out.update(dict.fromkeys(before - after, cause))
            elif not isinstance(event, ev.Forked):
                view.apply(event, number)
            if record.version in wanted:
                kept[record.version] = pack(view)
    standing = set(view.ids)
    texts = encoded_messages(reader, lineage, ids)
    return [
        Why(number, msg.decode(texts[number]), number in standing, put_in.get(number), taken_out.get(number))
        for number in ids
    ]


def under(view: View, limit: int) -> View:
    """What the view would be under another limit: the same that a request under it would leave."""
    left = view.copy()
    checked = decisions.check_limit(limit)
    assert checked is not None
    left.remove(left.spans(decisions.over(left, checked)))
    return left


# -- the family


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in its family. *parent* and *at*: the conversation, and its version, that it forked
    from; *reason* the fork's."""

    id: str
    name: str | None
    version: int
    created: str
    parent: str | None = None
    at: int | None = None


def family(listed: Iterable[Listed], conversation: str) -> list[Member]:
    """The conversation's ancestors, and all that descend from the first of them; parents first."""
    by_id = {line.id: line for line in listed}
    top = conversation
    while top in by_id and by_id[top].parent in by_id:
        top = by_id[top].parent or top
    children: dict[str | None, list[Listed]] = {}
    for line in sorted(by_id.values(), key=lambda line: (line.created, line.id)):
        children.setdefault(line.parent, []).append(line)
    found: list[Member] = []
    waiting = deque([by_id[top]] if top in by_id else [])
    while waiting:
        line = waiting.popleft()
        found.append(
            Member(
                id=line.id,
                name=line.name,
                version=line.version,
                created=line.created,
                parent=line.parent if found else None,
                at=line.parent_version if found else None,
            )
        )
        waiting += children.get(line.id, [])
    return found


def drawing(members: Sequence[Member], current: str | None = None, width: int = 100) -> Iterator[str]:
    """The family as lines of text, none of them wider than *width* columns.

    A star stands for a conversation's last version, or for one that others forked from; each conversation
    has a column for as long as it has versions below. *members* are told parents first.
    """
    open_: list[str] = []  # whose columns go on: each forked, further down, from the one to its left
    for member, version, first, last in _nodes(members):
        if not open_ or open_[-1] != member.id:
            open_.append(member.id)
        lead = "| " * min(len(open_) - 1, width)
        yield clip(f"{lead}* {_label(member, version, last, member.id == current)}", width)
        if not first:
            continue
        open_.pop()
        if member.parent is None:
            continue
        if open_ and open_[-1] == member.parent:
            yield clip("| " * min(len(open_) - 1, width) + "|/", width)
        else:  # nothing of its parent stands above: that goes on below it
            open_.append(member.parent)


def _nodes(members: Sequence[Member]) -> Iterator[tuple[Member, int, bool, bool]]:
    """(member, version, whether it is the first, whether it is the last that is drawn of it) from the newest
    down, forks above what they fork from."""
    forks: dict[str, dict[int, list[Member]]] = {member.id: {member.version: []} for member in members}
    for member in members:
        if member.parent is not None and member.at is not None:
            forks[member.parent].setdefault(member.at, []).append(member)
    for root in members:
        if root.parent is not None:
            continue
        stack = [(root, sorted(forks[root.id]))]
        while stack:
            member, versions = stack[-1]
            if not versions:
                stack.pop()
            elif waiting := forks[member.id][versions[-1]]:
                fork = waiting.pop()
                stack.append((fork, sorted(forks[fork.id])))
            else:
                version = versions.pop()
                yield member, version, not versions, version == member.version


def _label(member: Member, version: int, last: bool, current: bool) -> str:
    name = member.name or member.id
    told = "".join(" " if unicodedata.category(char) in ("Cc", "Cf") else char for char in name)
    return f"{told}@{version}{' (here)' if current and last else ''}"


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    none = sum(unicodedata.combining(char) > 0 for char in text)
    return len(text) + wide - none


def clip(text: str, width: int) -> str:
    """The text, cut to so many columns, with an ellipsis where it was cut."""
    if columns_of(text) <= width:
        return text
    place, left = 0, width - 1
    while (left := left - columns_of(text[place])) >= 0:
        place += 1
    return text[:place] + "…"
