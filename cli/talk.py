"""`chat` and `newchat`: one question from the shell, or a session.

Rules: the answer is all that goes to standard output. A PROMPT, or a standard input that is no terminal,
means one question; the prompt comes first, then an empty line, then what was piped in.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from openai2.cli.failures import INTERRUPTED, warn
from openai2.cli.options import db_option
from openai2.cli.render import is_terminal
from openai2.cli.words import _
from openai2.errors import BadInput

if TYPE_CHECKING:
    from openai2.chat import Chat

F = TypeVar("F", bound=Callable[..., Any])

_MORE = _(
    "\n\nWith PROMPT, or when standard input is not a terminal, the question is asked, the answer is "
    "printed, and that is all. Where there is both, the question is PROMPT, an empty line, and then what "
    "was piped in (less the line ends at its end): cat notes.txt | openai2 chat 'Sum this up.'\n\n"
    "Otherwise you talk: Enter sends, Alt-Enter begins another line, Ctrl-C stops an answer and keeps "
    "what came, Ctrl-D leaves, /help tells the rest."
)


def _options(command: F) -> F:
    for option in reversed(
        (
            click.argument("prompt", required=False),
            click.option(
                "-m", "--model", metavar="MODEL", help=_("The model to ask; it is kept for next time.")
            ),
            click.option(
                "-s", "--system", metavar="TEXT", help=_("Add a system message, and pin it so that it stays.")
            ),
            click.option(
                "--max-messages",
                type=click.IntRange(min=1),
                metavar="N",
                help=_("Send and keep in view N messages at most; kept for next time. Pinned ones stay."),
            ),
            click.option("--base-url", metavar="URL", help=_("Another server that speaks the API.")),
            click.option("--key", metavar="KEY", help=_("An API key, before any other.")),
            click.option(
                "--offline",
                is_flag=True,
                help=_("Let a built-in server answer by small fixed rules; no key is needed."),
            ),
            db_option,
        )
    ):
        command = option(command)
    return command


@click.command(
    "chat",
    help=_("Go on with the conversation last chatted in; with none yet, begin one.") + _MORE,
)
@click.option(
    "-c",
    "--conversation",
    metavar="REF",
    help=_("Go on with this conversation: its name, or the start of its name or id. A new name begins one."),
)
@_options
def chat(prompt: str | None, **options: Any) -> None:
    """Go on with a conversation."""
    _talk(prompt, options, fresh=False)


@click.command(
    "newchat",
    help=_("Begin a new conversation. The old one stays as it is, and `chat -c` goes on with it.") + _MORE,
)
@click.option("-c", "--conversation", metavar="NAME", help=_("Give the new conversation this name."))
@_options
def newchat(prompt: str | None, **options: Any) -> None:
    """Begin a conversation."""
    _talk(prompt, options, fresh=True)


def _talk(prompt: str | None, options: dict[str, Any], *, fresh: bool) -> None:
    question = _question(prompt)
    from openai2.cli import opening

    with opening.opened(opening.Wishes(**options), fresh=fresh) as opened:
        if question is None:
            from openai2.cli import repl

            repl.converse(opened)
        else:
            _ask_once(opened, question)


def _question(prompt: str | None) -> str | None:
    """What to ask; None where a person is to be talked with."""
    if is_terminal(sys.stdin):
        piped = None
    else:
        raw = sys.stdin.buffer.read()
        try:
            piped = raw.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as fault:
            raise BadInput(
                "standard input is no UTF-8 text: byte {place} is none of it", place=fault.start + 1
            ) from None
    if prompt is None and piped is None:
        return None
    question = "\n\n".join(filter(None, (prompt, piped)))
    if not question.strip():
        raise BadInput("the prompt is empty: say something")
    return question


def _ask_once(chat: Chat, question: str) -> None:
    if chat.interrupted():
        warn(
            _(
                "an earlier answer in this conversation was cut off and is kept apart: "
                "`openai2 chat` without a prompt asks what to do with it"
            )
        )
    from openai2.cli.answering import Answers, Screen

    screen = Screen()
    with Answers() as answers:
        if not answers.receive(chat.async_stream_request(question), screen):
            raise click.exceptions.Exit(INTERRUPTED)


COMMANDS = {"chat": chat, "newchat": newchat}
