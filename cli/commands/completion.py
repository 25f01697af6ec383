"""`completion`: print the script with which a shell completes the command line."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from openai2.cli.terminal.i18n import _


@click.command(
    "completion",
    help=_(
        "Print the script with which SHELL completes commands, options and the names of conversations. "
        "Add one of these lines to the shell's settings:\n\n"
        "\b\n"
        'bash   eval "$(openai2 completion bash)"    in ~/.bashrc\n'
        'zsh    eval "$(openai2 completion zsh)"     in ~/.zshrc\n'
        "fish   openai2 completion fish | source     in ~/.config/fish/config.fish"
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "openai2", "_OPENAI2_COMPLETE").source())


COMMANDS = {"completion": completion}
