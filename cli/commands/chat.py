"""`chat` and `newchat`: ask one question, or start an interactive session.

Invariants:
- A PROMPT, or a standard input that is not a terminal, means one question: the prompt, an empty line, then
  the piped text. With -i a session follows.
- Wrong options are reported before anything is written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from openai2.cli.arguments.completions import conversations, templates
from openai2.cli.arguments.options import F, api_option, db_option, server_options
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import is_terminal, note
from openai2.errors import BadInput

_DETAILS = _(
    "\n\nWith PROMPT, or when standard input is not a terminal, ask this one question, print the answer and "
    "exit. With both, the question is PROMPT, an empty line, and the piped text without its last line ends: "
    "cat notes.txt | openai2 chat 'Sum this up.' With -i, continue in an interactive session afterwards, "
    "even if text was piped in.\n\n"
    "Otherwise start an interactive session: Enter sends, Alt-Enter starts a new line, Ctrl-C stops an "
    "answer and keeps what was received, Ctrl-D leaves, /help lists the commands.\n\n"
    "The API key is that of --key, else of OPENAI_API_KEY, else those stored with `add_apikey`."
)

_OPTIONS = (
    click.argument("prompt", required=False),
    click.option(
        "-m", "--model", metavar="MODEL", help=_("Ask this model, now and later in this conversation.")
    ),
    click.option("-s", "--system", metavar="TEXT", help=_("Add a system message and pin it.")),
    click.option(
        "-a",
        "--attach",
        metavar="FILE",
        multiple=True,
        type=click.Path(),
        help=_("Attach a file (image, PDF, sound or text); - is standard input. Repeatable."),
    ),
    api_option,
    click.option(
        "-t", "--template", metavar="NAME", shell_complete=templates, help=_("Use a saved template.")
    ),
    click.option(
        "--save", metavar="NAME", help=_("Save PROMPT, -s, -m and -o as a template, and do not ask.")
    ),
    click.option(
        "--max-messages",
        type=click.IntRange(min=0),
        metavar="N",
        help=_("Send and keep in view at most N messages, now and later; 0 for no limit."),
    ),
    click.option("-u", "--usage", is_flag=True, help=_("Print tokens and seconds on standard error.")),
    click.option("-x", "--extract", is_flag=True, help=_("Print only the first code block of the answer.")),
    click.option("--no-stream", is_flag=True, help=_("Print the answer when it is complete.")),
    click.option("-i", "--interactive", is_flag=True, help=_("Continue interactively after the answer.")),
    server_options,
    db_option,
)


class PromptOptions(NamedTuple):
    """The options that do not describe the conversation or the server."""

    attach: tuple[str, ...]
    option: dict[str, Any]
    template: str | None
    save: str | None
    usage: bool
    extract: bool
    no_stream: bool
    interactive: bool


def _with_options(command: F) -> F:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(
    "chat",
    help=_("Continue the last conversation; start one if there is none yet.") + _DETAILS,
)
@click.option(
    "-c",
    "--conversation",
    metavar="REF",
    shell_complete=conversations,
    help=_(
        "Continue this conversation: its name, or the start of its name or id. A new name starts a new one."
    ),
)
@_with_options
def chat(prompt: str | None, **options: Any) -> None:
    """Continue a conversation."""
    _run(prompt, options, is_new=False)


@click.command(
    "newchat",
    help=_("Start a new conversation. The last one stays as it is; `chat -c` continues it.") + _DETAILS,
)
@click.option("-c", "--conversation", metavar="NAME", help=_("Give the new conversation this name."))
@_with_options
def newchat(prompt: str | None, **options: Any) -> None:
    """Start a conversation."""
    _run(prompt, options, is_new=True)


def _run(prompt: str | None, options: dict[str, Any], *, is_new: bool) -> None:
    given = PromptOptions(*(options.pop(name) for name in PromptOptions._fields))
    api = given.option
    if given.save is not None:
        _save_template(given.save, prompt, options, api)
        return
    template = _read_template(given.template)
    piped = None if is_terminal(sys.stdin) else sys.stdin.buffer.read()
    parts = _read_attachments(given.attach, piped)
    text = _join(prompt, None if "-" in given.attach or piped is None else _decode(piped))
    question = template.question(text or None) if template is not None else text
    if question is not None and not question.strip() and not parts:
        raise BadInput("the prompt must not be empty")
    if template is not None:
        options["model"] = options["model"] or template.model
        options["system"] = template.system if options["system"] is None else options["system"]
        api = {**template.options, **api}
    _ask(question or None, parts, {**options, "options": api}, given, is_new=is_new)


def _ask(
    question: str | None,
    parts: Sequence[dict[str, Any]],
    options: dict[str, Any],
    given: PromptOptions,
    *,
    is_new: bool,
) -> None:
    has_question = question is not None or bool(parts)
    if not has_question and (given.usage or given.extract or given.no_stream):
        raise click.UsageError(_("-u, -x and --no-stream apply to one answer: give a PROMPT"))
    from openai2.cli.session import open_chat

    with open_chat.open_chat(open_chat.ChatOptions(**options), new=is_new) as opened:
        if has_question:
            from openai2.cli.session import one_shot

            if given.interactive and not is_terminal(sys.stdin):
                one_shot.reopen_stdin()
            output = one_shot.OutputOptions(given.usage, given.extract, not given.no_stream)
            one_shot.ask(opened, question, parts, output, options["model"])
        if not has_question or given.interactive:
            from openai2.cli.session import repl

            repl.run_session(opened, options["model"])


def _join(prompt: str | None, piped: str | None) -> str | None:
    """Return the text of the question; None if there is neither, which starts a session."""
    if prompt is None and piped is None:
        return None
    return "\n\n".join(filter(None, (prompt, piped)))


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as fault:
        raise BadInput(
            "standard input is not UTF-8 text: byte {place} is invalid (-a - attaches other content)",
            place=fault.start + 1,
        ) from None


def _read_attachments(paths: tuple[str, ...], piped: bytes | None) -> list[dict[str, Any]]:
    if not paths:
        return []
    from openai2.cli.arguments import attachments

    if "-" in paths and piped is None:
        raise BadInput("-a - attaches standard input, which is a terminal: pipe a file into the command")
    return [
        attachments.to_part(piped or b"", "stdin") if path == "-" else attachments.read_part(path)
        for path in paths
    ]


def _read_template(name: str | None) -> Any:
    if name is None:
        return None
    from openai2.cli.settings import template_files

    return template_files.read(name)


def _save_template(name: str, prompt: str | None, options: dict[str, Any], api: dict[str, Any]) -> None:
    from openai2.cli.settings import template_files
    from openai2.cli.settings.template_files import Template

    template = Template(prompt=prompt, system=options["system"], model=options["model"], options=api)
    if template == Template():
        raise BadInput("there is nothing to save: give a PROMPT, -s, -m or -o")
    template_files.save(name, template)
    note(_("saved: `openai2 chat -t {name}` uses it", name=name))


COMMANDS = {"chat": chat, "newchat": newchat}
