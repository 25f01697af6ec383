"""`chat` and `newchat`: one question from the shell, or a session.

Rules: a PROMPT, or a standard input that is no terminal, means one question: the prompt comes first, then an
empty line, then what was piped in; -i goes on talking afterwards. What is wrong with an option is said before
anything is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import click

from openai2.cli.arguments.ask_options import api_option, server_options
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import db_option
from openai2.cli.commands.completion import saved
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import is_terminal, note
from openai2.errors import BadInput

F = TypeVar("F", bound=Callable[..., Any])

_MORE = _(
    "\n\nWith PROMPT, or when standard input is not a terminal, the question is asked, the answer is "
    "printed, and that is all. Where there is both, the question is PROMPT, an empty line, and then what "
    "was piped in (less the line ends at its end): cat notes.txt | openai2 chat 'Sum this up.' With -i you "
    "go on talking afterwards, at the terminal, also where something was piped in.\n\n"
    "Otherwise you talk: Enter sends, Alt-Enter begins another line, Ctrl-C stops an answer and keeps "
    "what came, Ctrl-D leaves, /help tells the rest.\n\n"
    "The key is that of --key, else of OPENAI_API_KEY, else those that `add_apikey` keeps."
)

_OPTIONS = (
    click.argument("prompt", required=False),
    click.option("-m", "--model", metavar="MODEL", help=_("The model to ask; it is kept for next time.")),
    click.option(
        "-s", "--system", metavar="TEXT", help=_("Add a system message, and pin it so that it stays.")
    ),
    click.option(
        "-a",
        "--attach",
        metavar="FILE",
        multiple=True,
        type=click.Path(),
        help=_("Send a file along (an image, a PDF, a sound, a text); - is standard input. Repeatable."),
    ),
    api_option,
    click.option(
        "-t", "--template", metavar="NAME", shell_complete=saved, help=_("Ask with a saved template.")
    ),
    click.option(
        "--save", metavar="NAME", help=_("Save PROMPT, -s, -m and -o as a template, and do not ask.")
    ),
    click.option(
        "--max-messages",
        type=click.IntRange(min=1),
        metavar="N",
        help=_("Send and keep in view N messages at most; kept for next time. Pinned ones stay."),
    ),
    click.option("-u", "--usage", is_flag=True, help=_("Tell tokens and seconds, on standard error.")),
    click.option(
        "-x", "--extract", is_flag=True, help=_("Print only the first block of code of the answer.")
    ),
    click.option("--no-stream", is_flag=True, help=_("Print the answer when all of it is there.")),
    click.option("-i", "--interactive", is_flag=True, help=_("Go on talking after the answer.")),
    server_options,
    db_option,
)


class Wanted(NamedTuple):
    """What is said besides the prompt, apart from whom to ask."""

    attach: tuple[str, ...]
    option: tuple[tuple[str, str], ...]
    template: str | None
    save: str | None
    usage: bool
    extract: bool
    no_stream: bool
    interactive: bool


def _options(command: F) -> F:
    for option in reversed(_OPTIONS):
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
    shell_complete=conversations,
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
    wanted = Wanted(*(options.pop(name) for name in Wanted._fields))
    api = _api_options(wanted.option)
    if wanted.save is not None:
        _save(wanted.save, prompt, options, api)
        return
    held = _template(wanted.template)
    piped = None if is_terminal(sys.stdin) else sys.stdin.buffer.read()
    parts = _attached(wanted.attach, piped)
    said = _joined(prompt, None if "-" in wanted.attach or piped is None else _text(piped))
    question = held.question(said or None) if held is not None else said
    if question is not None and not question.strip() and not parts:
        raise BadInput("the prompt is empty: say something")
    if held is not None:
        options["model"] = options["model"] or held.model
        options["system"] = held.system if options["system"] is None else options["system"]
        api = {**held.options, **api}
    _open(question or None, parts, options, api, wanted, fresh=fresh)


def _open(
    question: str | None,
    parts: Sequence[dict[str, Any]],
    options: dict[str, Any],
    api: dict[str, Any],
    wanted: Wanted,
    *,
    fresh: bool,
) -> None:
    once = question is not None or bool(parts)
    if not once and (wanted.usage or wanted.extract or wanted.no_stream):
        raise click.UsageError(_("-u, -x and --no-stream are of one answer: give a PROMPT"))
    from openai2.cli.session import open_chat

    with open_chat.opened(open_chat.Wishes(**options, options=api), fresh=fresh) as opened:
        if once:
            from openai2.cli.session import one_shot as single

            if wanted.interactive and not is_terminal(sys.stdin):
                single.open_the_terminal()
            ways = single.Ways(wanted.usage, wanted.extract, not wanted.no_stream)
            single.ask(opened, question, parts, ways)
        if not once or wanted.interactive:
            from openai2.cli.session import repl

            repl.converse(opened)


def _joined(prompt: str | None, piped: str | None) -> str | None:
    """What is said; None where a person is to be talked with."""
    if prompt is None and piped is None:
        return None
    return "\n\n".join(filter(None, (prompt, piped)))


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as fault:
        raise BadInput(
            "standard input is no UTF-8 text: byte {place} is none of it (-a - attaches other things)",
            place=fault.start + 1,
        ) from None


def _attached(paths: tuple[str, ...], piped: bytes | None) -> list[dict[str, Any]]:
    if not paths:
        return []
    from openai2.cli.arguments import attachments

    if "-" in paths and piped is None:
        raise BadInput("-a - attaches standard input, which is a terminal: pipe something in")
    return [
        attachments.part(piped or b"", "stdin") if path == "-" else attachments.part_of(path)
        for path in paths
    ]


def _api_options(given: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    if not given:
        return {}
    from openai2.cli.commands.config import parsed

    return {name: parsed(value) for name, value in given}


def _template(name: str | None) -> Any:
    if name is None:
        return None
    from openai2.cli.commands import templates

    return templates.read(name)


def _save(name: str, prompt: str | None, options: dict[str, Any], api: dict[str, Any]) -> None:
    from openai2.cli.commands import templates

    kept = templates.Template(prompt=prompt, system=options["system"], model=options["model"], options=api)
    if kept == templates.Template():
        raise BadInput("there is nothing to save: say a PROMPT, -s, -m or -o")
    templates.save(name, kept)
    note(_("saved: `openai2 chat -t {name}` asks with it", name=name))


COMMANDS = {"chat": chat, "newchat": newchat}
