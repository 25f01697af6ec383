"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from openai2.cli.arguments.completions import conversations, profiles
from openai2.cli.terminal.i18n import _

F = TypeVar("F", bound=Callable[..., Any])


def db_option(command: F) -> F:
    """Add `--db PATH`."""
    return click.option(
        "--db", metavar="PATH", callback=_check_path, help=_("Use this database instead of the default one.")
    )(command)


def _check_path(ctx: click.Context, parameter: click.Parameter, db: str | None) -> str | None:
    # A script whose variable is not set passes an empty path; it must not get the default database.
    if db is not None and not db.strip():
        raise click.BadParameter(_("the path of the database must not be empty"))
    return db


def json_option(command: F) -> F:
    """Add `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=_("Print JSON for programs."))(command)


def conversation_option(command: F) -> F:
    """Add `-c REF`, the conversation to act on, as the parameter `conversation`."""
    return click.option(
        "-c",
        "--conversation",
        metavar="REF",
        shell_complete=conversations,
        help=_("Act on this conversation: its name, or the start of its name or id."),
    )(command)


def api_option(command: F) -> F:
    """Add `-o KEY VALUE`, as a dict in the parameter `option`."""
    return click.option(
        "-o",
        "--option",
        "option",
        metavar="KEY VALUE",
        nargs=2,
        multiple=True,
        callback=_parse_pairs,
        help=_("Set an option of the API, as in -o temperature 0.2; VALUE is JSON if valid, else text."),
    )(command)


def _parse_pairs(
    ctx: click.Context, parameter: click.Parameter, pairs: tuple[tuple[str, str], ...]
) -> dict[str, Any]:
    return {name: parse_value(text) for name, text in pairs}


def parse_value(text: str) -> Any:
    """Return the JSON value that *text* contains, or *text* itself if it is not valid JSON."""
    import msgspec

    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def server_options(command: F) -> F:
    """Add the options that select the server: `--profile`, `--base-url`, `--key` and `--offline`."""
    for option in (
        click.option(
            "--offline",
            is_flag=True,
            help=_("Use the built-in server, which answers by fixed rules; no key is needed."),
        ),
        click.option(
            "--key",
            metavar="KEY",
            help=_("Use this API key, or the stored key of this name."),
        ),
        click.option("--base-url", metavar="URL", help=_("Use another server that speaks the API.")),
        click.option(
            "--profile",
            metavar="NAME",
            shell_complete=profiles,
            help=_("Use the server of this profile; see config."),
        ),
    ):
        command = option(command)
    return command
