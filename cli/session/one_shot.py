"""A single request from the shell: `openai2 chat PROMPT`.

Invariants:
- Standard output holds nothing but the answer, or its first block of code with `--extract`.
- Rounds that other writers add meanwhile are kept, and a note tells of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from openai2.cli.session.other_writers import ChangeWatch
from openai2.cli.session.streaming import AnswerLoop, AnswerOutput, answer_output
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import answer_text, note, out
from openai2.cli.views.error_text import INTERRUPTED, warn
from openai2.cli.views.event_text import answer_facts
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.errors import Refused

if TYPE_CHECKING:
    from openai2.chat import Chat


class OutputOptions(NamedTuple):
    """How to print an answer: with its usage, only its first block of code, while it streams."""

    usage: bool = False
    extract: bool = False
    stream: bool = True


class _CollectedOutput(AnswerOutput):
    """Collect an answer instead of showing it."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def _write(self, piece: str) -> None:
        self.pieces.append(piece)

    def _settle(self) -> None:
        pass


def ask(
    chat: Chat,
    question: str | None,
    parts: Sequence[dict[str, Any]],
    options: OutputOptions,
    chosen_model: str | None = None,
) -> None:
    """Ask, print the answer, and record *chosen_model* for the conversation once it has answered.

    Raises Exit if Ctrl-C stopped the answer, Refused if it has no code to extract.
    """
    conversation = chat.conversation
    if conversation.interrupted():
        warn(
            _(
                "an earlier answer in this conversation was interrupted and set aside: "
                "`openai2 chat` without a prompt asks what to do with it"
            )
        )
    watch = ChangeWatch(conversation)
    if watch.is_busy():
        note(_("another process is asking in this conversation, too: both rounds will be recorded"))
    collected = _CollectedOutput() if options.extract else None
    request = chat.async_stream_request if options.stream else partial(_request_whole, chat)
    output = collected or answer_output()
    with AnswerLoop() as answers:
        complete = answers.receive(request(question, *parts), output)
    if complete or not output.is_empty:
        conversation.configure(model=chosen_model)
    if news := watch.news(own_rounds=1):
        note(news)
    if options.usage:
        _print_usage(conversation)
    if not complete:
        raise click.exceptions.Exit(INTERRUPTED)
    if collected is not None:
        _print_code("".join(collected.pieces))


async def _request_whole(
    chat: Chat, question: str | None, *parts: dict[str, Any]
) -> AsyncGenerator[str, None]:
    """Yield the answer in one piece, without streaming."""
    yield await chat.async_request(question, *parts)


def _print_code(answer: str) -> None:
    code = first_code_block(answer)
    if code is None:
        note(answer)
        raise Refused("the answer has no block of code, so nothing is printed")
    out(answer_text(code), end="" if code.endswith("\n") else "\n")


def first_code_block(text: str) -> str | None:
    """Return the content of the first fenced block of *text*, or None. An unclosed one ends with the text."""
    fence, indent = "", 0
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if not fence:
            mark = bare[:1]
            size = len(bare) - len(bare.lstrip(mark)) if mark in ("`", "~") else 0
            if size >= 3 and not (mark == "`" and mark in bare[size:]):
                fence, indent = mark * size, len(line) - len(line.lstrip())
        elif bare.startswith(fence) and not bare.strip(fence[0]):
            return "".join(lines)
        else:
            space = len(line) - len(line.lstrip(" "))
            lines.append(line[min(space, indent) :])
    return "".join(lines) if fence else None


def _print_usage(conversation: Conversation) -> None:
    """Print the model, tokens (as counted by the server) and seconds of the last answer."""
    with conversation.store.reading() as reader:
        records = reader.events(conversation.id, types=("message_added",), newest_first=True)
        answer = next(
            (e.answer for r in records if isinstance(e := r.event, ev.MessageAdded) and e.answer), None
        )
    if answer is None:
        return
    facts = answer_facts(answer.model, answer.usage, answer.seconds)
    if "prompt_tokens" not in (answer.usage or {}):
        facts.append(_("the server did not count the tokens"))
    note(" · ".join(facts))


def reopen_stdin() -> None:
    """Make the terminal the standard input, if that was a pipe. Raises Refused if there is no terminal."""
    name = "CONIN$" if os.name == "nt" else "/dev/tty"
    try:
        handle = os.open(name, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except OSError:
        raise Refused("cannot continue interactively: there is no terminal") from None
    os.dup2(handle, 0)
    os.close(handle)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process exits
