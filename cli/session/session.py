"""A session: the chat that is open, and what a person may do with it.

Rule: the session knows the chat and how an answer is shown; it does not know where lines are typed
(`prompt`) nor which words begin with a slash (`slash`).
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from openai2.api import exchange
from openai2.chat import Chat
from openai2.cli.session.other_writers import Watch
from openai2.cli.session.status_line import Status
from openai2.cli.session.streaming import Answers, Screen
from openai2.cli.session.streaming import screen as best_screen
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import clip, note, one_line, screen
from openai2.conversation import Conversation
from openai2.core import messages as msg


class Session:
    """An open chat, talked with from a terminal.

    *attached* are the parts that go with the next question, *draft* is what stands at the next prompt.
    """

    def __init__(self, chat: Chat, answers: Answers) -> None:
        self.chat = chat
        self.answers = answers
        self.attached: list[dict[str, Any]] = []
        self.draft = ""
        self.watch = Watch(chat.conversation)
        self.status = Status(chat, self.watch)
        # The openai package takes a second to import: let that pass while the person is typing.
        self._loading = threading.Thread(target=_load, name="openai2-load", daemon=True)
        self._loading.start()

    # -- asking

    def ask(self, text: str) -> bool:
        """Ask, and show the answer as it arrives; whether it came to its end (else it was stopped).

        Raises what a failed request raises. What was attached stays until it was answered.
        """
        held = self.chat.conversation.view().ids
        parts = tuple(self.attached)
        complete = self._receive(
            lambda screen: self.chat.async_stream_request(text, *parts, on_reasoning=screen.think)
        )
        if complete or self.chat.conversation.view().ids != held:
            self.attached.clear()
        return complete

    def ask_again(self, model: str | None = None) -> bool:
        """Ask the last question again, perhaps another model; the old answer makes way for the new one."""
        options = {} if model is None else {"model": model}
        return self._receive(
            lambda screen: self.chat.async_stream_retry(on_reasoning=screen.think, **options)
        )

    def _receive(self, pieces: Callable[[Screen], AsyncIterator[str]]) -> bool:
        self._loading.join()
        self.tell_news()
        if self.watch.busy():
            note(_("this conversation is being asked elsewhere, too: both rounds will stand in it"))
        screen, complete = best_screen(), False
        try:
            complete = self.answers.receive(pieces(screen), screen)
        finally:
            self.tell_news(own=int(complete or not screen.empty))
        return complete

    # -- what others do

    def tell_news(self, own: int = 0) -> None:
        """Say what was done to the conversation elsewhere; *own* rounds of it are ours."""
        if news := self.watch.news(own):
            note(news)
        self.status.forget()

    def acted(self) -> None:
        """What was done just now was done here."""
        self.watch.seen()
        self.status.forget()

    # -- where we are

    def go_to(self, conversation: Conversation, limit: int | None = None) -> None:
        """Go on with another conversation; what was noted of model and limit in it holds, else *limit*."""
        settings = conversation.settings()
        self.chat.conversation = conversation
        self.chat.model = settings.model or self.chat.model
        self.chat.MsgMaxCount = settings.limit or limit
        self.watch = Watch(conversation)
        self.status = Status(self.chat, self.watch)

    @property
    def title(self) -> str:
        """The conversation's name, or the start of its id."""
        conversation = self.chat.conversation
        return conversation.name or conversation.id[:8]

    def last_answer(self) -> str | None:
        """The text of the last answer in view."""
        for message in reversed(self.chat.conversation.messages()):
            if message.get("role") == "assistant":
                return msg.text_of(message)
        return None

    def introduce(self) -> None:
        """Say what is open, and how it ended last time."""
        size = len(self.chat.conversation.view())
        name = self.title if size or self.chat.conversation.name else _("a new conversation")
        parts = [name, str(self.chat.model)]
        if size:
            parts.append(counted("{n} message", "{n} messages", size))
        if self.chat.MsgMaxCount is not None:
            parts.append(_("at most {limit}", limit=self.chat.MsgMaxCount))
        note(" · ".join(parts))

    def say_where(self) -> None:
        """Show the round that is last now."""
        if last := one_line(str(self.chat.conversation.last_round())):
            note(clip(last, screen() - 1))


def _load() -> None:
    with suppress(Exception):  # the first question meets it too, and says so in its place
        import_module("openai2.cli.terminal.markdown")
        exchange.load()
