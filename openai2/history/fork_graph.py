"""Collect the tree of forks around a conversation, and draw it like `git log --graph`.

Invariants:
- All functions are pure: rows of the list in, members or lines of text out.
- The newest version is on top. Each conversation has one column, which bends into its parent's column at the
  version that it forked from.
- No line is wider than *width* terminal columns; East Asian wide characters count as two.
"""

from __future__ import annotations

import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from openai2.store import Listed


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in a tree of forks. It forked from *parent* at version *at*, both None for the root."""

    id: str
    name: str | None
    version: int
    created: str
    parent: str | None = None
    at: int | None = None


def family(listed: Iterable[Listed], conversation: str) -> list[Member]:
    """Return the whole tree of forks that holds the conversation, parents before children."""
    by_id = {row.id: row for row in listed}
    top = conversation
    while top in by_id and by_id[top].parent in by_id:
        top = by_id[top].parent or top
    children: dict[str | None, list[Listed]] = {}
    for row in sorted(by_id.values(), key=lambda row: (row.created, row.id)):
        children.setdefault(row.parent, []).append(row)
    members: list[Member] = []
    queue = deque([by_id[top]] if top in by_id else [])
    while queue:
        row = queue.popleft()
        members.append(
            Member(
                id=row.id,
                name=row.name,
                version=row.version,
                created=row.created,
                parent=row.parent if members else None,
                at=row.parent_version if members else None,
            )
        )
        queue += children.get(row.id, [])
    return members


def drawing(members: Sequence[Member], current: str | None = None, width: int = 100) -> Iterator[str]:
    """Yield the drawing line by line; *members* come parents first, *current* is marked "(here)".

    A star marks the last version of a conversation and each version that was forked.
    """
    columns: list[str] = []  # open columns from left to right; each forked from the one to its left
    for member, version, is_first, is_last in _nodes(members):
        if not columns or columns[-1] != member.id:
            columns.append(member.id)
        lead = "| " * min(len(columns) - 1, width)
        yield clip(f"{lead}* {_label(member, version, is_last and member.id == current)}", width)
        if not is_first:
            continue
        columns.pop()
        if member.parent is None:
            continue
        if columns and columns[-1] == member.parent:
            yield clip("| " * min(len(columns) - 1, width) + "|/", width)
        else:  # the parent has no line above this one: it takes over the column
            columns.append(member.parent)


def _nodes(members: Sequence[Member]) -> Iterator[tuple[Member, int, bool, bool]]:
    """Yield (member, version, is first node, is last node) from the newest down, forks above their parent."""
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
            elif undrawn := forks[member.id][versions[-1]]:
                fork = undrawn.pop()
                stack.append((fork, sorted(forks[fork.id])))
            else:
                version = versions.pop()
                yield member, version, not versions, version == member.version


def _label(member: Member, version: int, is_current: bool) -> str:
    name = member.name or member.id
    printable = "".join(" " if unicodedata.category(char) in ("Cc", "Cf") else char for char in name)
    return f"{printable}@{version}{' (here)' if is_current else ''}"


def columns_of(text: str) -> int:
    """Return the width of the text in terminal columns."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    combining = sum(unicodedata.combining(char) > 0 for char in text)
    return len(text) + wide - combining


def clip(text: str, width: int) -> str:
    """Return the text cut to *width* columns, with an ellipsis if it was cut."""
    if columns_of(text) <= width:
        return text
    place, left = 0, width - 1
    while (left := left - columns_of(text[place])) >= 0:
        place += 1
    return text[:place] + "…"
