"""The state of a session: the open chat, the next question's attachments, and the actions on them.

Invariant: this module does not know where lines are typed (`line_input`) nor the slash commands (`slash`).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from openai2.api import exchange
from openai2.chat import Chat
from openai2.cli.session.other_writers import ChangeWatch
from openai2.cli.session.status_line import StatusLine
from openai2.cli.session.streaming import AnswerLoop, AnswerOutput, answer_output
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import clip, note, one_line, screen
from openai2.conversation import Conversation
from openai2.core import messages as msg


class Session:
    """An open chat on a terminal.

    *attached* are the content parts to send with the next question, *draft* is the text of the next prompt.
    *chosen_model* is recorded for the conversation with its first answer, since a wrong name has none.
    """

    def __init__(self, chat: Chat, answers: AnswerLoop, chosen_model: str | None = None) -> None:
        self.chat = chat
        self.answers = answers
        self.chosen_model = chosen_model
        self.attached: list[dict[str, Any]] = []
        self.draft = ""
        self.watch = ChangeWatch(chat.conversation)
        self.status = StatusLine(chat, self.watch)
        # Importing openai takes about a second: do it while the person types the first question.
        self._preload = threading.Thread(target=_preload, name="openai2-load", daemon=True)
        self._preload.start()

    # -- requests

    def ask(self, text: str) -> bool:
        """Ask, and show the answer while it streams. Return False if the person stopped it.

        Raises the error of a failed request. Attachments are kept until a round was recorded.
        """
        ids_before = self.chat.conversation.view().ids
        parts = tuple(self.attached)
        complete = self._receive(
            lambda output: self.chat.async_stream_request(text, *parts, on_reasoning=output.show_reasoning)
        )
        if complete or self.chat.conversation.view().ids != ids_before:
            self.attached.clear()
        return complete

    def ask_again(self, model: str | None = None) -> bool:
        """Ask the last question again, of *model* if given. The new answer replaces the old one."""
        options = {} if model is None else {"model": model}
        return self._receive(
            lambda output: self.chat.async_stream_retry(on_reasoning=output.show_reasoning, **options)
        )

    def _receive(self, request: Callable[[AnswerOutput], AsyncIterator[str]]) -> bool:
        self._preload.join()
        self.report_changes()
        if self.watch.is_busy():
            note(_("another process is asking in this conversation, too: both rounds will be recorded"))
        output, complete = answer_output(), False
        try:
            complete = self.answers.receive(request(output), output)
        finally:
            self.report_changes(own_rounds=int(complete or not output.is_empty))
        if complete or not output.is_empty:
            self.chat.conversation.configure(model=self.chosen_model)
        return complete

    # -- other writers

    def report_changes(self, own_rounds: int = 0) -> None:
        """Show what other writers changed; *own_rounds* of the new rounds are those of this session."""
        if news := self.watch.news(own_rounds):
            note(news)
        self.status.expire()

    def mark_seen(self) -> None:
        """Mark all events so far as seen, after a command of this session."""
        self.watch.mark_seen()
        self.status.expire()

    # -- the conversation

    def go_to(self, conversation: Conversation, limit: int | None = None) -> None:
        """Continue in *conversation* with its recorded model and message limit, else *limit*."""
        settings = conversation.settings()
        self.chat.conversation = conversation
        if settings.model is not None:
            self.chat.model, self.chosen_model = settings.model, None
        self.chat.MsgMaxCount = limit if settings.limit is None else settings.limit or None
        self.watch = ChangeWatch(conversation)
        self.status = StatusLine(self.chat, self.watch)

    @property
    def title(self) -> str:
        """The name of the conversation, or the start of its id."""
        conversation = self.chat.conversation
        return conversation.name or conversation.id[:8]

    def last_answer(self) -> str | None:
        """Return the text of the last answer in view, or None."""
        for message in reversed(self.chat.conversation.messages()):
            if message.get("role") == "assistant":
                return msg.text_of(message)
        return None

    def introduce(self) -> None:
        """Show the conversation, model, number of messages and limit."""
        size = len(self.chat.conversation.view())
        name = self.title if size or self.chat.conversation.name else _("a new conversation")
        parts = [name, str(self.chat.model)]
        if size:
            parts.append(counted("{n} message", "{n} messages", size))
        if self.chat.MsgMaxCount is not None:
            parts.append(_("at most {limit}", limit=self.chat.MsgMaxCount))
        note(" · ".join(parts))

    def show_last_round(self) -> None:
        """Show the last round in one line."""
        if last := one_line(str(self.chat.conversation.last_round())):
            note(clip(last, screen() - 1))


def _preload() -> None:
    with suppress(Exception):  # the first question meets the same error and reports it
        import_module("openai2.cli.terminal.markdown")
        exchange.load()
