"""`replay`: ask the questions of conversations again, of other models or with another system message.

Invariants:
- Answers received before a failure or Ctrl-C are kept; the same command asks only what is missing.
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
from openai2.cli.views.error_text import INTERRUPTED, error_line
from openai2.conversation import Conversation
from openai2.engine import Engine
from openai2.errors import BadInput

if TYPE_CHECKING:
    from openai2.cli.session.open_chat import Server
    from openai2.replay.run import Progress, Replayed


class ReplayOptions(NamedTuple):
    """What the replays change; *version* and *name* apply to a single one."""

    models: list[str | None]
    system: str | None
    version: int | None
    name: str | None
    jobs: int

    @property
    def is_single(self) -> bool:
        """Whether the options require one conversation and one model."""
        return self.version is not None or self.name is not None


@click.command(
    "replay",
    help=_(
        "Ask every question of a conversation again, in a fork: each after the new answers to the earlier "
        "ones, with the same pins and rollbacks. Prints the id of each fork; compare with `diff`.\n\n"
        "Without --model, each question goes to the model that it was asked of. Several models, or --all "
        "conversations, are replayed in parallel, -j at a time. After a failure or Ctrl-C, the same command "
        "asks only what is missing."
    ),
)
@click.argument("ref", nargs=-1, shell_complete=conversations)
@click.option("-m", "--model", multiple=True, metavar="MODEL", help=_("Ask this model. Repeatable."))
@click.option("-s", "--system", metavar="TEXT", help=_("Use this system message instead."))
@click.option(
    "--from", "version", type=click.IntRange(min=1), metavar="VERSION", help=_("Start at this version.")
)
@click.option("--name", metavar="NAME", help=_("Give the fork this name."))
@click.option(
    "--all", "every", is_flag=True, help=_("Replay all conversations except archived ones and replays.")
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help=_("Run this many at a time."),
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
    """Ask the questions again."""
    from openai2.cli.session import open_chat

    if every and ref:
        raise click.UsageError(_("give either conversations or --all"))
    models: list[str | None] = list(dict.fromkeys(model)) or [None]
    changes = ReplayOptions(models, *(options.pop(name) for name in ReplayOptions._fields[1:]))
    chat_options = open_chat.ChatOptions(db=db, options=option, **options)
    references = list(ref) or [conversation or ""]
    with existing_engine(db) as engine:
        sources = None if every else [refs.find_conversation(engine, item or None) for item in references]
        if changes.is_single and (sources is None or len(sources) > 1 or len(models) > 1):
            raise BadInput("--from and --name apply to one conversation and one model")
        with open_chat.resolve_server(chat_options) as server, progress(_("replaying")) as line:
            open_chat.note_offline(chat_options)
            replays = _run_interruptible(_replay_all(engine, sources, changes, server, line))
        _print_results(engine, replays)


async def _replay_all(
    engine: Engine, sources: list[Conversation] | None, changes: ReplayOptions, server: Server, line: Line
) -> list[Replayed]:
    from openai2.api.options import split_options
    from openai2.chat import Chat
    from openai2.replay.run import Replayed

    client_options, create_options = split_options(server.options)
    client_options["send_reasoning"] = create_options.pop("send_reasoning", False)
    default_model = server.model or server.default_model or DEFAULT_MODEL
    source = sources[0] if sources and changes.is_single else None
    async with Chat(server.key, default_model, db=engine, conversation=source, **client_options) as chat:
        show = _progress_callback(line)
        if source is None:
            return await chat.async_replay_all(
                sources, changes.models, changes.system, jobs=changes.jobs, progress=show, **create_options
            )
        model = changes.models[0]
        fork = await chat.async_replay(
            model, changes.system, changes.version, changes.name, progress=show, **create_options
        )
        return [Replayed(source.id, model, fork.conversation.id, 0, 0)]


def _progress_callback(line: Line) -> Callable[[Progress], None]:
    answers: dict[tuple[str, str | None], int] = {}

    def show(so_far: Progress) -> None:
        latest = so_far.latest
        if so_far.total == 1 and latest.missing is not None:
            line(latest.asked, latest.asked + latest.missing)
            return
        answers[latest.source, latest.model] = latest.asked
        line.show(so_far.done, so_far.total, counted("{n} answer", "{n} answers", sum(answers.values())))

    return show


def _run_interruptible(work: Coroutine[Any, Any, list[Replayed]]) -> list[Replayed]:
    """Run *work*; Ctrl-C cancels it at an await, so that open requests are recorded."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    try:
        with suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(signal.SIGINT, task.cancel)
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        note(_("stopped; the same command continues with what is missing"))
        raise click.exceptions.Exit(INTERRUPTED) from None
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _print_results(engine: Engine, replays: list[Replayed]) -> None:
    """Print a line for each fork, and the errors on standard error; raise ClickException for errors."""
    failed = 0
    for done in replays:
        source = engine.open(done.source).name or done.source
        if done.conversation is not None:
            out(one_line("  ".join(filter(None, [done.conversation, source, done.model]))))
        if done.error is not None:
            failed += 1
            note(f"{source}: {error_line(done.error)}")
    if not replays:
        note(_("there is nothing to replay"))
    if failed:
        raise click.ClickException(
            counted(
                "{n} replay is incomplete: the same command continues it",
                "{n} replays are incomplete: the same command continues them",
                failed,
            )
        )


COMMANDS = {"replay": replay}
