"""The status line: what is open, who answers, how much is in view.

Rules: it is cheap. Tokens are counted once when a conversation is opened, and from then on only in events
that are new; everything else is in memory; and between two looks, however many keys are pressed, a second
passes. On a narrow terminal the parts that matter least are left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from openai2.chat import Chat
from openai2.cli.session.other_writers import Watch
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import clip, one_line, width
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core.typeguards import is_int, is_mapping

_FRESH = 1.0  # seconds
_BETWEEN = " · "


class Tokens:
    """The tokens that a conversation's answers have cost so far."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._version = 0
        self._total = 0

    def total(self) -> int:
        """Up to the last event."""
        last = self._conversation.version
        if last > self._version:
            store = self._conversation.store
            with store.reading() as reader:
                for record in reader.events(
                    self._conversation.id, after=self._version, upto=last, types=("message_added",)
                ):
                    event = record.event
                    if isinstance(event, ev.MessageAdded) and event.answer is not None:
                        self._total += _spent(event.answer.usage)
            self._version = last
        return self._total


def _spent(usage: Any) -> int:
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if is_mapping(usage) else []
    return sum(count for count in counts if is_int(count, 0))


class Status:
    """The status line of a chat."""

    def __init__(self, chat: Chat, watch: Watch) -> None:
        self._chat = chat
        self._conversation = chat.conversation
        self._watch = watch
        self._tokens = Tokens(chat.conversation)
        self._parts: list[str] = []
        self._until = 0.0

    def line(self, columns: int, attached: int = 0) -> str:
        """The line, at most so many columns wide."""
        if time.monotonic() >= self._until:
            self._parts = self._look()
            self._until = time.monotonic() + _FRESH
        parts = [*self._parts]
        if attached:
            parts.insert(1, counted("{n} attached", "{n} attached", attached))
        return _fitting(parts, columns)

    def forget(self) -> None:
        """Look again the next time."""
        self._until = 0.0

    def _look(self) -> list[str]:
        """The parts, those that matter most first but for the model, which people expect second."""
        view = self._conversation.view()
        held, limit = len(view), self._chat.MsgMaxCount
        name = self._conversation.name or (self._conversation.id[:8] if held else _("a new conversation"))
        size = counted("{n} message", "{n} messages", held)
        if limit is not None:
            size = _("{held} of {limit} messages", held=held, limit=limit)
        parts = [one_line(name), one_line(str(self._chat.model)), size]
        if self._watch.busy():
            parts.insert(1, _("being asked elsewhere"))
        if view.pins:
            parts.append(counted("{n} pinned", "{n} pinned", len(view.pins)))
        if tokens := self._tokens.total():
            parts.append(counted("{n} token", "{n} tokens", tokens))
        return parts


def _fitting(parts: Sequence[str], columns: int) -> str:
    """As many of the parts as fit, from the first on; the first is cut if it must be."""
    line = clip(parts[0], max(columns - 1, 2))
    for part in parts[1:]:
        if width(line + _BETWEEN + part) < columns:
            line += _BETWEEN + part
    return line
