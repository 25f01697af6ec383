"""The report of `verify`: its problems, and the list that the checks add them to."""

from __future__ import annotations

from typing import Any

import msgspec

from openai2.errors import LazyMessage, lazy_message

#: A report holds at most this many problems, and one more that says so.
MAX_PROBLEMS = 1000


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong. *version* and *position* are None if no single event is at fault.

    *what* is the English text. It is *template* with *facts* in its `{named}` places, for translation.
    """

    conversation: str | None = None
    version: int | None = None
    position: int | None = None
    what: str
    template: str
    facts: dict[str, Any] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `verify`: *ok* if there are no *problems*, and how much the store holds."""

    ok: bool
    conversations: int
    events: int
    problems: list[Problem]


class Problems:
    """Collects problems, at most MAX_PROBLEMS."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def add(
        self,
        what: LazyMessage,
        conversation: str | None = None,
        version: int | None = None,
        position: int | None = None,
    ) -> None:
        """Add one problem."""
        if len(self._problems) > MAX_PROBLEMS:
            return
        if len(self._problems) == MAX_PROBLEMS:
            what = lazy_message("there are more problems than these")
            conversation = version = position = None
        self._problems.append(
            Problem(
                conversation=conversation,
                version=version,
                position=position,
                what=str(what),
                template=what.template,
                facts=what.facts,
            )
        )

    def report(self, conversations: int, events: int) -> Report:
        """Return the report; problems of events and conversations come before those of the whole file."""
        problems = sorted(self._problems, key=lambda p: p.conversation is None and p.position is None)
        return Report(ok=not problems, conversations=conversations, events=events, problems=problems)
