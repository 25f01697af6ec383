"""A session: the chat that is open, and what a person may do with it.

Rule: the session knows the chat and how an answer is shown; it does not know where lines are typed
(`prompt`) nor which words begin with a slash (`slash`).
"""

from __future__ import annotations

import threading
from contextlib import suppress

from openai2 import provider
from openai2.chat import Chat
from openai2.cli.answering import Answers, Screen
from openai2.cli.render import clip, note, one_line, screen
from openai2.cli.words import _, counted


class Session:
    """An open chat, talked with from a terminal."""

    def __init__(self, chat: Chat, answers: Answers) -> None:
        self.chat = chat
        self.answers = answers
        # The openai package takes a second to import: let that pass while the person is typing.
        self._loading = threading.Thread(target=_load, name="openai2-load", daemon=True)
        self._loading.start()

    def ask(self, text: str) -> None:
        """Ask, and show the answer as it arrives. Raises what a failed request raises."""
        self._loading.join()
        self.answers.receive(self.chat.async_stream_request(text), Screen())

    def ask_again(self) -> None:
        """Ask the last question again; the old answer makes way for the new one."""
        self._loading.join()
        self.answers.receive(self.chat.async_stream_retry(), Screen())

    def introduce(self) -> None:
        """Say what is open, and how it ended last time."""
        conversation = self.chat.conversation
        size = len(conversation.view())
        name = conversation.name or (conversation.id[:8] if size else _("a new conversation"))
        parts = [name, str(self.chat.model)]
        if size:
            parts.append(counted("{n} message", "{n} messages", size))
        if self.chat.MsgMaxCount is not None:
            parts.append(_("at most {limit}", limit=self.chat.MsgMaxCount))
        note(" · ".join(parts))
        note(_("/help tells what can be done here, Ctrl-D leaves."))
        self.say_where()

    def say_where(self) -> None:
        """Show the round that is last now."""
        if last := one_line(str(self.chat.conversation.last_round())):
            note(clip(last, screen() - 1))


def _load() -> None:
    with suppress(Exception):  # the first question meets it too, and says so in its place
        provider.load()
