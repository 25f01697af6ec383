"""`replay`: the questions of conversations asked again, of other models, under another system message.

Rule: what was answered stays, whatever happens; the same command goes on with what is missing.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from openai2.base_chat import DEFAULT_MODEL
from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import api_option, conversation_option, db_option, server_options
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.progress import Line, progress
from openai2.cli.terminal.text import note, one_line, out
from openai2.cli.views import error_text
from openai2.conversation import Conversation
from openai2.engine import Engine
from openai2.errors import BadInput

if TYPE_CHECKING:
    from openai2.cli.session.open_chat import Server
    from openai2.replay.run import Progress, Replayed


class _Wish(NamedTuple):
    """What is to be other than it was."""

    models: list[str | None]
    system: str | None
    version: int | None
    name: str | None
    jobs: int


@click.command(
    "replay",
    help=_(
        "Ask every question of a conversation again, on a fork: each with the new answers before it, pins "
        "and rollbacks carried over as they happened. Prints the id of each fork; `diff` compares.\n\n"
        "Without --model each question is asked of the model that it was asked of. Several models, or --all "
        "conversations, are replayed side by side, -j at a time. What is stopped or fails has lost nothing: "
        "the same command asks only what is missing."
    ),
)
@click.argument("ref", nargs=-1, shell_complete=conversations)
@click.option("-m", "--model", multiple=True, metavar="MODEL", help=_("The model to ask; may be said again."))
@click.option("-s", "--system", metavar="TEXT", help=_("Another system message."))
@click.option(
    "--from", "version", type=click.IntRange(min=1), metavar="VERSION", help=_("Begin at this version.")
)
@click.option("--name", metavar="NAME", help=_("The fork's name."))
@click.option("--all", "every", is_flag=True, help=_("All conversations, but those archived, and replays."))
@click.option(
    "-j", "--jobs", type=click.IntRange(min=1), default=8, show_default=True, help=_("So many at a time.")
)
@api_option
@server_options
@conversation_option
@db_option
def replay(
    ref: tuple[str, ...],
    model: tuple[str, ...],
    every: bool,
    option: dict[str, Any],
    conversation: str | None,
    db: str | None,
    **options: Any,
) -> None:
    """Ask again."""
    from openai2.cli.session import open_chat

    if every and ref:
        raise click.UsageError(_("say either which conversations, or --all"))
    models: list[str | None] = list(dict.fromkeys(model)) or [None]
    wish = _Wish(models, *(options.pop(name) for name in _Wish._fields[1:]))
    wishes = open_chat.Wishes(db=db, options=option, **options)
    references = list(ref) or [conversation or ""]
    with existing_engine(db) as engine:
        chosen = None if every else [refs.find_conversation(engine, one or None) for one in references]
        if (wish.version is not None or wish.name is not None) and (
            chosen is None or len(chosen) > 1 or len(models) > 1
        ):
            raise BadInput("--from and --name are of one conversation and one model")
        with open_chat.server(wishes) as server, progress(_("asking again")) as line:
            open_chat.say_who_answers(wishes)
            done = _until_done(_asked(engine, chosen, wish, server, line))
        _tell(engine, done)


async def _asked(
    engine: Engine, chosen: list[Conversation] | None, wish: _Wish, server: Server, line: Line
) -> list[Replayed]:
    from openai2.api.options import split_options
    from openai2.chat import Chat
    from openai2.replay.run import Replayed

    travel, create = split_options(server.options)
    travel["send_reasoning"] = create.pop("send_reasoning", False)
    usual = server.model or server.usual or DEFAULT_MODEL
    source = chosen[0] if chosen and (wish.version is not None or wish.name is not None) else None
    async with Chat(server.key, usual, db=engine, conversation=source, **travel) as chat:
        if source is None:
            return await chat.async_replay_all(
                chosen, wish.models, wish.system, jobs=wish.jobs, progress=_shown(line), **create
            )
        model = wish.models[0]
        twin = await chat.async_replay(
            model, wish.system, wish.version, wish.name, progress=_shown(line), **create
        )
        return [Replayed(source.id, model, twin.conversation.id, 0, 0)]


def _shown(line: Line) -> Callable[[Progress], None]:
    answers: dict[tuple[str, str | None], int] = {}

    def show(so_far: Progress) -> None:
        latest = so_far.latest
        if so_far.total == 1 and latest.missing is not None:
            line(latest.asked, latest.asked + latest.missing)
            return
        answers[latest.source, latest.model] = latest.asked
        came = counted("{n} answer", "{n} answers", sum(answers.values()))
        line.show(so_far.done, so_far.total, came)

    return show


def _until_done(work: Coroutine[Any, Any, list[Replayed]]) -> list[Replayed]:
    """Run it; Ctrl-C stops it where it waits, so that what is under way is put on record."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    try:
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGINT, task.cancel)
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        note(_("stopped; the same command goes on with what is missing"))
        raise click.exceptions.Exit(error_text.INTERRUPTED) from None
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _tell(engine: Engine, done: list[Replayed]) -> None:
    """A line for each fork on standard output; what failed on standard error, and in the exit status."""
    failed = 0
    for one in done:
        source = engine.open(one.source).name or one.source
        if one.conversation is not None:
            out(one_line("  ".join(filter(None, [one.conversation, source, one.model]))))
        if one.error is not None:
            failed += 1
            note(f"{source}: {error_text.error_line(one.error)}")
    if not done:
        note(_("there is nothing to ask again"))
    if failed:
        raise click.ClickException(
            counted(
                "{n} replay is not complete: the same command goes on with it",
                "{n} replays are not complete: the same command goes on with them",
                failed,
            )
        )


COMMANDS = {"replay": replay}
