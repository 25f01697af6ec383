"""Tab completion in the session: slash commands and their arguments.

Invariants:
- Names of conversations and models are cached for `_FRESH` seconds, so a key press rarely reads the store.
- Models come from the last requests of the latest conversations only, not from the whole log.
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
_MAX_CONVERSATIONS = 500
_MODELS_FROM = 30  # latest conversations to read models from

#: Commands with a completed argument, and the kind of that argument.
_ARGUMENT_KINDS = {
    "/switch": "conversation",
    "/model": "model",
    "/retry": "model",
    "/attach": "file",
    "/save": "file",
}


class CompletionNames:
    """The names to complete with: commands (with their help), conversations and models."""

    def __init__(self, engine: Engine, commands: Sequence[tuple[str, str]]) -> None:
        self.commands = commands
        self._engine = engine
        self._expires = 0.0
        self._names: dict[str, list[str]] = {}

    def names(self, kind: str) -> list[str]:
        """Return the names of *kind*: "conversation" (names or short ids) or "model" (models used so far)."""
        if time.monotonic() >= self._expires:
            self._names = {"conversation": self._conversations(), "model": self._models()}
            self._expires = time.monotonic() + _FRESH
        return self._names[kind]

    def _conversations(self) -> list[str]:
        return [line.name or line.id[:8] for line in self._engine.conversations(limit=_MAX_CONVERSATIONS)]

    def _models(self) -> list[str]:
        models: dict[str, None] = {}
        for line in self._engine.conversations(archived=None, limit=_MODELS_FROM):
            with self._engine.store.reading() as reader:
                for record in reader.events(
                    line.id, types=("configured", "request_started"), newest_first=True, limit=5
                ):
                    if isinstance(record.event, (ev.Configured, ev.RequestStarted)) and record.event.model:
                        models[record.event.model] = None
        return sorted(models)


class SlashCompleter(Completer):
    """Complete a line that begins with a slash."""

    def __init__(self, names: CompletionNames) -> None:
        self._names = names
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield the completions of the text before the cursor."""
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        command, space, argument = text.partition(" ")
        if not space:
            for name, help in self._names.commands:
                if name.startswith(command):
                    yield Completion(name, -len(command), display_meta=help)
        elif (kind := _ARGUMENT_KINDS.get(command)) == "file":
            yield from self._paths.get_completions(Document(argument), complete_event)
        elif kind is not None:
            for name in self._names.names(kind):
                if name.casefold().startswith(argument.casefold()):
                    yield Completion(name, -len(argument), display=one_line(name))
