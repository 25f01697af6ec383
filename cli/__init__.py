"""The `openai2` command: the table of its commands, and the place where errors become an exit status.

Invariants:
- The module of a command is imported when the command runs, so that each command starts fast.
- Only `_Commands.main` turns an exception into one line of text and an exit status.
- Options before the command's name have the same effect as after it.
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
    """A command: its name, the module of `cli.commands` that has it in COMMANDS, and its line in `--help`."""

    name: str
    module: str
    help: str


#: The commands, in the sections and the order in which `--help` lists them.
SECTIONS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    (
        _("Chat"),
        (
            Row("chat", "chat", _("Continue the last conversation.")),
            Row("newchat", "chat", _("Start a new conversation; the old one stays.")),
            Row("template", "templates", _("List, show or remove saved templates.")),
            Row("demo", "demo", _("Show a guided tour; no key is needed.")),
        ),
    ),
    (
        _("Keys and servers"),
        (
            Row("add_apikey", "keys", _("Store an API key.")),
            Row("read_apikey", "keys", _("List the stored API keys, masked.")),
            Row("remove_apikey", "keys", _("Remove an API key.")),
            Row("clear_apikey", "keys", _("Remove all API keys.")),
            Row("config", "config", _("Show or change the profiles of servers.")),
        ),
    ),
    (
        _("Inspect"),
        (
            Row("list", "list", _("List the conversations.")),
            Row("show", "show", _("Show the messages of a conversation.")),
            Row("log", "log", _("Show the events of a conversation.")),
            Row("why", "log", _("Show why each message is or is not in view.")),
            Row("search", "search", _("Find messages by their words.")),
            Row("diff", "diff", _("Show two conversations side by side.")),
            Row("stats", "stats", _("Show requests, failures and tokens.")),
            Row("head", "show", _("Print the hash of a conversation's last event.")),
        ),
    ),
    (
        _("Go back"),
        (
            Row("rollback", "edit", _("Remove the last N rounds from view.")),
            Row("undo", "edit", _("Undo the last N actions.")),
            Row("redo", "edit", _("Redo the last N undone actions.")),
            Row("restore", "edit", _("Restore a conversation to a version.")),
            Row("pin", "edit", _("Pin messages, so that a limit does not remove them.")),
            Row("unpin", "edit", _("Unpin messages.")),
        ),
    ),
    (
        _("Conversations"),
        (
            Row("fork", "manage", _("Create a conversation that continues from a version.")),
            Row("replay", "replay", _("Ask all questions again, for example of another model.")),
            Row("rename", "manage", _("Rename a conversation.")),
            Row("archive", "manage", _("Archive a conversation.")),
            Row("unarchive", "manage", _("Take a conversation out of the archive.")),
            Row("export", "export_import", _("Write conversations to a file.")),
            Row("import", "export_import", _("Import conversations or messages from a file.")),
            Row("redact", "redact", _("Remove the text of a message for good.")),
            Row("delete", "redact", _("Remove a conversation for good.")),
        ),
    ),
    (
        _("The database"),
        (
            Row("verify", "verify", _("Verify that no event was changed or removed.")),
            Row("rebuild", "verify", _("Rebuild the derived tables from the events.")),
            Row("scrub", "redact", _("Rewrite the file without removed texts.")),
            Row("completion", "completion", _("Print the script for completion in a shell.")),
            Row("path", "path", _("Print the paths of the database and the keys.")),
        ),
    ),
)
#: The module of each command.
MODULES = {row.name: row.module for _title, rows in SECTIONS for row in rows}

#: Allocations between two garbage collections: imports make next to no garbage, and looking for it is slow.
_GC_THRESHOLD = 50_000


class _PipeClosed(Exception):
    """The reader of standard output has closed it; click would turn a BrokenPipeError into exit status 1."""


class _Commands(click.Group):
    """The group of all commands, which imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        module = import_module(f"openai2.cli.commands.{MODULES[cmd_name]}")
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

        # From the table: click would import the module of each match for its help.
        rows = [row for _title, rows in SECTIONS for row in rows if row.name.startswith(incomplete)]
        items = [CompletionItem(row.name, help=row.help) for row in rows]
        return items + click.Command.shell_complete(self, ctx, incomplete)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)  # prints for --help and --version
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
        gc.set_threshold(_GC_THRESHOLD)
        _replace_closed_streams()
        _escape_what_stdout_cannot_encode()
        if language() is not None:
            from openai2.cli.terminal.help_pages import use_columns

            translate_click()
            use_columns(self)
        try:
            status: Any = super().main(*args, **extra)
        except (_PipeClosed, BrokenPipeError):
            from openai2.cli.views import error_text

            status = error_text.discard_output()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every error ends here
            from openai2.cli.views import error_text

            status = error_text.report(error)
        sys.exit(status if isinstance(status, int) else 0)


def _replace_closed_streams() -> None:
    """Open the null device for each standard stream that the parent process closed (which is then None)."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            null = open(os.devnull, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - kept open
            setattr(sys, name, null)


def _escape_what_stdout_cannot_encode() -> None:
    """Write characters that the terminal's encoding lacks as escapes, instead of raising an error."""
    stdout: Any = sys.stdout
    if hasattr(stdout, "reconfigure") and stdout.encoding.lower() != "utf-8":
        stdout.reconfigure(errors="backslashreplace")


def _print_version(ctx: click.Context, _parameter: click.Parameter, is_given: bool) -> None:
    if is_given and not ctx.resilient_parsing:
        from openai2 import __version__

        click.echo(f"openai2 {__version__}")
        ctx.exit()


@click.command(
    "openai2",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    help=_(
        "Chat with OpenAI models, with every event on record: events never change, so any past state can be "
        "shown, restored and continued.\n\n"
        "REF names a conversation: its name, or the start of its name or id. REF@12 is its state at version "
        "12, REF@{2026-11-22T10:05} its state at that time. Without REF, commands use the current "
        "conversation, the one that was last asked in."
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help=_("Print the version and exit."),
)
@db_option
@json_option
@conversation_option
@click.option("--offline", is_flag=True, help=_("Same as `chat --offline`."))
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """Pass the options before the command's name on to the command."""
    given = {name: value for name, value in options.items() if value}
    name = ctx.invoked_subcommand
    command = cli.get_command(ctx, name) if name else None
    if name is None:
        click.echo(ctx.get_help())
    if command is None or name is None:
        return
    known = {parameter.name for parameter in command.params}
    for option in given:
        if option not in known:
            flag = {"as_json": "--json"}.get(option, f"--{option}")
            raise click.UsageError(_("{command} has no option {option}", command=name, option=flag), ctx)
    ctx.default_map = {name: given}


__all__ = ["cli"]
