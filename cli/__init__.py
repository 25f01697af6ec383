"""The `openai2` command: its table of commands, and the one place where it ends.

Rules: a command's module is imported when the command is run, so that each starts as fast as it can; an
exception becomes one line and an exit status here and nowhere else; options that stand before the
command's name count as if they stood after it.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.terminal.i18n import _, language, translate_click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Row(NamedTuple):
    """A command: its name, the module whose COMMANDS hold it, and what the list of commands says of it."""

    name: str
    module: str
    help: str


#: The commands, in the sections and the order in which `--help` lists them.
SECTIONS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        _("Talk"),
        (
            Row("chat", "chat", _("Go on with the last conversation.")),
            Row("newchat", "chat", _("Begin a new conversation; the old one stays.")),
            Row("template", "templates", _("List, show or remove saved templates.")),
            Row("demo", "demo", _("A guided run of everything; no key is needed.")),
        ),
    ),
    (
        _("Keys and servers"),
        (
            Row("add_apikey", "keys", _("Add an API key; asks for it without one.")),
            Row("read_apikey", "keys", _("List the API keys, masked.")),
            Row("remove_apikey", "keys", _("Remove an API key.")),
            Row("clear_apikey", "keys", _("Remove all API keys.")),
            Row("config", "config", _("Show or change the profiles of servers.")),
        ),
    ),
    (
        _("Look"),
        (
            Row("list", "list", _("List the conversations.")),
            Row("show", "show", _("Show the messages of a conversation.")),
            Row("log", "log", _("Tell what happened in a conversation.")),
            Row("why", "log", _("Tell why each message is in view, or not.")),
            Row("search", "search", _("Find messages by their words.")),
            Row("diff", "diff", _("Show two conversations side by side.")),
            Row("stats", "stats", _("Tell what requests have cost.")),
            Row("head", "show", _("Print the hash that commits to a conversation.")),
        ),
    ),
    (
        _("Go back"),
        (
            Row("rollback", "edit", _("Take the last N rounds out.")),
            Row("undo", "edit", _("Undo the last N actions.")),
            Row("redo", "edit", _("Take the last N undos back.")),
            Row("restore", "edit", _("Make a conversation what it was at a version.")),
            Row("pin", "edit", _("Keep messages from being removed by a limit.")),
            Row("unpin", "edit", _("Let pinned messages go again.")),
        ),
    ),
    (
        _("Conversations"),
        (
            Row("fork", "manage", _("Make a conversation that goes on from here, or from a version.")),
            Row("replay", "replay", _("Ask a conversation's questions again, of another model say.")),
            Row("rename", "manage", _("Give a conversation a name.")),
            Row("archive", "manage", _("Put a conversation away.")),
            Row("unarchive", "manage", _("Take a conversation out of the archive.")),
            Row("export", "export_import", _("Write conversations to a file.")),
            Row("import", "export_import", _("Take in a file of conversations or messages.")),
            Row("redact", "redact", _("Remove a message's text for good.")),
            Row("delete", "redact", _("Remove a conversation for good.")),
        ),
    ),
    (
        _("The database"),
        (
            Row("verify", "verify", _("Prove that no event was changed or removed.")),
            Row("rebuild", "verify", _("Make the derived tables anew from the events.")),
            Row("scrub", "redact", _("Leave nothing in the file that was removed.")),
            Row("completion", "completion", _("Let a shell complete what you type.")),
            Row("path", "path", _("Say where the database and the keys are.")),
        ),
    ),
)
HOMES = {row.name: row.module for _title, rows in SECTIONS for row in rows}


#: Between two looks for garbage: there is next to none while modules are imported, and to look takes time.
_ALLOCATIONS = 50_000


class _PipeClosed(Exception):
    """Whoever read our output went away; click would make a BrokenPipeError exit status 1."""


class _Commands(click.Group):
    """The commands, each imported when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in HOMES:
            return None
        module = import_module(f"openai2.cli.commands.{HOMES[cmd_name]}")
        command: click.Command = module.COMMANDS[cmd_name]
        if language() is not None:
            from openai2.cli.terminal.help_pages import use_columns

            use_columns(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, rows in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(row.name, row.help) for row in rows])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        # From the table: click would import every command that fits, to ask it for its help.
        rows = [row for _title, rows in SECTIONS for row in rows if row.name.startswith(incomplete)]
        named = [CompletionItem(row.name, help=row.help) for row in rows]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)  # --help and --version print and end here
        except BrokenPipeError:
            raise _PipeClosed from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            raise _PipeClosed from None
        return result

    def main(self, *args: Any, **extra: Any) -> Any:
        extra.setdefault("prog_name", "openai2")
        extra["standalone_mode"] = False
        gc.set_threshold(_ALLOCATIONS)
        _stand_in_for_closed_streams()
        _write_what_can_be()
        if language() is not None:
            from openai2.cli.terminal.help_pages import use_columns

            translate_click()
            use_columns(self)
        try:
            status: Any = super().main(*args, **extra)
        except (_PipeClosed, BrokenPipeError):
            from openai2.cli.views import error_text

            status = error_text.discard_output()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - here every one ends
            from openai2.cli.views import error_text

            status = error_text.report(error)
        sys.exit(status if isinstance(status, int) else 0)


def _stand_in_for_closed_streams() -> None:
    """Put an empty file where whoever started us closed a standard stream, so that nobody has to ask."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            nothing = open(os.devnull, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - till we end
            setattr(sys, name, nothing)


def _write_what_can_be() -> None:
    """Let an old terminal show a picture of what its encoding lacks, rather than end in an error."""
    stdout: Any = sys.stdout
    if hasattr(stdout, "reconfigure") and stdout.encoding.lower() != "utf-8":
        stdout.reconfigure(errors="backslashreplace")


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from openai2 import __version__

        click.echo(f"openai2 {__version__}")
        ctx.exit()


@click.command(
    "openai2",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    help=_(
        "Talk with OpenAI chat models, and account for it: whatever happens in a conversation is kept as "
        "an event that never changes, so any past state can be seen, restored and gone on from.\n\n"
        "REF names a conversation: its name, or the start of its name or id; REF@12 is its state at "
        "version 12, REF@{2026-11-22T10:05} its state at that time. Without a REF it is the current "
        "conversation, the one last chatted in."
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help=_("Print the version and exit."),
)
@db_option
@json_option
@conversation_option
@click.option("--offline", is_flag=True, help=_("As in `chat --offline`."))
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Hand what stands before the command's name on to the command."""
    given = {name: value for name, value in options.items() if value}
    name = ctx.invoked_subcommand
    command = cli.get_command(ctx, name) if name else None
    if name is None:
        click.echo(ctx.get_help())
    if command is None or name is None:
        return
    known = {parameter.name: parameter for parameter in command.params}
    for option in given:
        if option not in known:
            flag = {"as_json": "--json"}.get(option, f"--{option}")
            raise click.UsageError(_("{command} has no {option}", command=name, option=flag), ctx)
    ctx.default_map = {name: given}


__all__ = ["cli"]
