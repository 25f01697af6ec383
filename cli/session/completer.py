"""What Tab can complete: commands, and after them what they want: a conversation, a model, a file.

Rule: what is known is looked up once in a while, not at each key; the log is asked for no more than its last
requests.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from openai2.cli.terminal.text import one_line
from openai2.core import events as ev
from openai2.engine import Engine

_FRESH = 10.0  # seconds
_CONVERSATIONS = 500
_ASKED = 30  # conversations whose models are looked up, those that changed last

#: The commands that are followed by more, and by what.
_WANTS = {
    "/switch": "conversation",
    "/model": "model",
    "/retry": "model",
    "/attach": "file",
    "/save": "file",
}


class Known:
    """The names that can be completed: of commands (with what they do), conversations and models."""

    def __init__(self, engine: Engine, commands: Sequence[tuple[str, str]]) -> None:
        self.commands = commands
        self._engine = engine
        self._until = 0.0
        self._found: dict[str, list[str]] = {}

    def names(self, kind: str) -> list[str]:
        """The conversations, by name or the start of their id; or the models that were asked."""
        if time.monotonic() >= self._until:
            self._found = {"conversation": self._conversations(), "model": self._models()}
            self._until = time.monotonic() + _FRESH
        return self._found[kind]

    def _conversations(self) -> list[str]:
        return [line.name or line.id[:8] for line in self._engine.conversations(limit=_CONVERSATIONS)]

    def _models(self) -> list[str]:
        models: dict[str, None] = {}
        for line in self._engine.conversations(archived=None, limit=_ASKED):
            with self._engine.store.reading() as reader:
                for record in reader.events(
                    line.id, types=("configured", "request_started"), newest_first=True, limit=5
                ):
                    if isinstance(record.event, (ev.Configured, ev.RequestStarted)) and record.event.model:
                        models[record.event.model] = None
        return sorted(models)


class Words(Completer):
    """Completions of a line that begins with a slash."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the text before the cursor can go on with."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        command, space, rest = text.partition(" ")
        if not space:
            for name, help in self._known.commands:
                if name.startswith(command):
                    yield Completion(name, -len(command), display_meta=help)
        elif (wanted := _WANTS.get(command)) == "file":
            yield from self._paths.get_completions(Document(rest), complete_event)
        elif wanted is not None:
            for name in self._known.names(wanted):
                if name.casefold().startswith(rest.casefold()):
                    yield Completion(name, -len(rest), display=one_line(name))
