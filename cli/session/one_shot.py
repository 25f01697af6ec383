"""One question from the shell, and its answer on standard output.

Rules: the answer, or of it the code that was asked for, is all that goes there. Whatever others do to the
conversation meanwhile stands beside it, and is told.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from openai2.cli.session.other_writers import Watch
from openai2.cli.session.streaming import Answers, screen
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import answer_text, note, out
from openai2.cli.views.error_text import INTERRUPTED, warn
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.errors import Refused

if TYPE_CHECKING:
    from openai2.chat import Chat


class Ways(NamedTuple):
    """How an answer is wanted."""

    usage: bool = False
    extract: bool = False
    stream: bool = True


def ask(chat: Chat, question: str | None, parts: Sequence[dict[str, Any]], ways: Ways) -> None:
    """Ask, and print the answer."""
    conversation = chat.conversation
    if conversation.interrupted():
        warn(
            _(
                "an earlier answer in this conversation was cut off and is kept apart: "
                "`openai2 chat` without a prompt asks what to do with it"
            )
        )
    watch = Watch(conversation)
    if watch.busy():
        note(_("this conversation is being asked elsewhere, too: both rounds will stand in it"))
    came: list[str] = []
    pieces = _pieces(chat, question, parts, ways, came)
    with Answers() as answers:
        complete = answers.receive(pieces, screen())
    if news := watch.news(own=1):
        note(news)
    if ways.usage:
        _tell_usage(conversation)
    if not complete:
        raise click.exceptions.Exit(INTERRUPTED)
    if ways.extract:
        _print_code("".join(came))


async def _pieces(
    chat: Chat, question: str | None, parts: Sequence[dict[str, Any]], ways: Ways, came: list[str]
) -> AsyncGenerator[str, None]:
    """The pieces that are shown as they come; all of them are put into *came*."""
    if not ways.stream:
        text = await chat.async_request(question, *parts)
        came.append(text)
        if not ways.extract:
            yield text
        return
    pieces: AsyncIterator[str] = chat.async_stream_request(question, *parts)
    try:
        async for piece in pieces:
            came.append(piece)
            if not ways.extract:
                yield piece
    finally:
        if isinstance(pieces, AsyncGenerator):  # which puts on record that it was left
            await pieces.aclose()


def _print_code(answer: str) -> None:
    code = first_block(answer)
    if code is None:
        note(answer)
        raise Refused("there is no block of code in the answer, so nothing is printed")
    out(answer_text(code), end="" if code.endswith("\n") else "\n")


def first_block(text: str) -> str | None:
    """What stands in the first fenced block of Markdown; one that is never closed ends with the text."""
    fence, indent = "", 0
    held: list[str] = []
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        if not fence:
            mark = bare[:1]
            size = len(bare) - len(bare.lstrip(mark)) if mark in ("`", "~") else 0
            if size >= 3 and not (mark == "`" and mark in bare[size:]):
                fence, indent = mark * size, len(line) - len(line.lstrip())
        elif bare.startswith(fence) and not bare.strip(fence[0]):
            return "".join(held)
        else:
            space = len(line) - len(line.lstrip(" "))
            held.append(line[min(space, indent) :])
    return "".join(held) if fence else None


def _tell_usage(conversation: Conversation) -> None:
    """What the last answer has cost, as the server counted it."""
    with conversation.store.reading() as reader:
        records = reader.events(conversation.id, types=("message_added",), newest_first=True)
        answer = next(
            (e.answer for r in records if isinstance(e := r.event, ev.MessageAdded) and e.answer), None
        )
    if answer is None:
        return
    usage = answer.usage or {}
    facts = [answer.model or ""]
    if "prompt_tokens" in usage:
        asked, came = usage["prompt_tokens"], usage.get("completion_tokens", 0)
        facts.append(_("{asked} + {came} tokens", asked=asked, came=came))
    else:
        facts.append(_("the server did not count the tokens"))
    if answer.seconds is not None:
        facts.append(_("{seconds} s", seconds=f"{answer.seconds:.2f}"))
    note(" · ".join(filter(None, facts)))


def open_the_terminal() -> None:
    """Let a person type where standard input was a pipe. Raises Refused where there is no terminal."""
    name = "CONIN$" if os.name == "nt" else "/dev/tty"
    try:
        handle = os.open(name, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except OSError:
        raise Refused("there is no terminal to go on talking at") from None
    os.dup2(handle, 0)
    os.close(handle)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - it lives as long as we do
