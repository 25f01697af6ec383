"""`completion`, which prints the script that lets a shell complete; and names that it completes."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from openai2.cli.arguments.completions import matching
from openai2.cli.terminal.i18n import _

SHELLS = ("bash", "zsh", "fish")


def profiles(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of profiles."""
    from openai2.cli.commands import config as config_command
    from openai2.profiles import PROFILES

    try:
        return matching([*config_command.read().profiles, *PROFILES], incomplete)
    except Exception:  # noqa: BLE001 - Tab is no place to complain
        return []


def saved(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of templates."""
    from openai2.cli.commands import templates

    return matching(templates.names(), incomplete)


@click.command(
    "completion",
    help=_(
        "Print the script that lets SHELL complete commands, options and the names of conversations. A line "
        "in its settings does it:\n\n"
        "\b\n"
        'bash   eval "$(openai2 completion bash)"    in ~/.bashrc\n'
        'zsh    eval "$(openai2 completion zsh)"     in ~/.zshrc\n'
        "fish   openai2 completion fish | source     in ~/.config/fish/config.fish"
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a shell's script."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "openai2", "_OPENAI2_COMPLETE").source())


COMMANDS = {"completion": completion}
