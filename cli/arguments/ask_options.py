"""Options of the commands that ask a server; `options` has those of all, which import less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from openai2.cli.commands.completion import profiles
from openai2.cli.terminal.i18n import _

F = TypeVar("F", bound=Callable[..., Any])


def api_option(command: F) -> F:
    """`-o KEY VALUE`, as pairs in the parameter `option`."""
    return click.option(
        "-o",
        "--option",
        "option",
        metavar="KEY VALUE",
        nargs=2,
        multiple=True,
        help=_("An option of the API, as in -o temperature 0.2; VALUE is JSON where it reads as such."),
    )(command)


def server_options(command: F) -> F:
    """Whom to ask: `--profile`, `--base-url`, `--key` and `--offline`."""
    for option in (
        click.option(
            "--offline",
            is_flag=True,
            help=_("Let a built-in server answer by small fixed rules; no key is needed."),
        ),
        click.option(
            "--key", metavar="KEY", help=_("An API key, or the name of one that is kept, before any other.")
        ),
        click.option("--base-url", metavar="URL", help=_("Another server that speaks the API.")),
        click.option(
            "--profile",
            metavar="NAME",
            shell_complete=profiles,
            help=_("The server of a profile; see config."),
        ),
    ):
        command = option(command)
    return command
