"""The status line: conversation, model, messages in view, tokens.

Invariants:
- It is computed at most once per `_FRESH` seconds, however many keys are pressed.
- Tokens are summed once, then only over new events. All other parts are in memory.
- On a narrow terminal the least important parts are left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from openai2.chat import Chat
from openai2.cli.session.other_writers import ChangeWatch
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import clip, one_line, width
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core.typeguards import is_int, is_mapping

_FRESH = 1.0  # seconds
_SEPARATOR = " · "


class TokenSum:
    """The sum of the tokens of a conversation's answers, updated incrementally."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._version = 0
        self._total = 0

    def total(self) -> int:
        """Return the sum up to the current version."""
        last = self._conversation.version
        if last > self._version:
            store = self._conversation.store
            with store.reading() as reader:
                for record in reader.events(
                    self._conversation.id, after=self._version, upto=last, types=("message_added",)
                ):
                    event = record.event
                    if isinstance(event, ev.MessageAdded) and event.answer is not None:
                        self._total += _tokens(event.answer.usage)
            self._version = last
        return self._total


def _tokens(usage: Any) -> int:
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if is_mapping(usage) else []
    return sum(count for count in counts if is_int(count, 0))


class StatusLine:
    """The status line of a chat."""

    def __init__(self, chat: Chat, watch: ChangeWatch) -> None:
        self._chat = chat
        self._conversation = chat.conversation
        self._watch = watch
        self._tokens = TokenSum(chat.conversation)
        self._parts: list[str] = []
        self._expires = 0.0

    def line(self, columns: int, attached: int = 0) -> str:
        """Return the line, narrower than *columns*; *attached* is the number of attachments."""
        if time.monotonic() >= self._expires:
            self._parts = self._compute_parts()
            self._expires = time.monotonic() + _FRESH
        parts = [*self._parts]
        if attached:
            parts.insert(1, counted("{n} attached", "{n} attached", attached))
        return _join_fitting(parts, columns)

    def expire(self) -> None:
        """Make the next call of `line` compute the parts again."""
        self._expires = 0.0

    def _compute_parts(self) -> list[str]:
        """Return the parts, the most important first; the model is second, where people look for it."""
        view = self._conversation.view()
        size, limit = len(view), self._chat.MsgMaxCount
        name = self._conversation.name or (self._conversation.id[:8] if size else _("a new conversation"))
        messages = counted("{n} message", "{n} messages", size)
        if limit is not None:
            messages = _("{size} of {limit} messages", size=size, limit=limit)
        parts = [one_line(name), one_line(str(self._chat.model)), messages]
        if self._watch.is_busy():
            parts.insert(1, _("another process is asking"))
        if view.pins:
            parts.append(counted("{n} pinned", "{n} pinned", len(view.pins)))
        if tokens := self._tokens.total():
            parts.append(counted("{n} token", "{n} tokens", tokens))
        return parts


def _join_fitting(parts: Sequence[str], columns: int) -> str:
    """Join the parts that fit, in order; the first is clipped if necessary."""
    line = clip(parts[0], max(columns - 1, 2))
    for part in parts[1:]:
        if width(line + _SEPARATOR + part) < columns:
            line += _SEPARATOR + part
    return line
