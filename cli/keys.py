"""`add_apikey`, `read_apikey`, `clear_apikey`: the key file, from outside.

Rules: a key is shown masked unless `--reveal` asks for it whole; no error, prompt or note shows one. An
argument can be read by others on the machine while the command runs, so without one the key is asked for.
"""

from __future__ import annotations

import sys

import click

from openai2.cli import home
from openai2.cli.failures import warn
from openai2.cli.keyfile import KeyFile
from openai2.cli.render import is_terminal, note, out
from openai2.cli.words import _, counted
from openai2.errors import BadInput
from openai2.keys import fingerprint, mask


# What looks like an option may be a key that was pasted wrong: no parser's error may quote it.
@click.command(
    "add_apikey",
    context_settings={"ignore_unknown_options": True},
    help=_(
        "Add an API KEY to those that chats use. With several keys the chats share the load among them.\n\n"
        "Without KEY it is asked for, unseen, or read as a line from a pipe: other people on the machine "
        "can see a command's arguments while it runs."
    ),
)
@click.argument("key", nargs=-1, type=click.UNPROCESSED)
def add_apikey(key: tuple[str, ...]) -> None:
    """Add a key."""
    if len(key) > 1:
        raise click.UsageError(_("one key at a time: there is no space in a key"))
    given = key[0] if key else _asked()
    fresh = KeyFile(home.keys()).add(given)
    shown = {"mask": mask(given), "fingerprint": fingerprint(given)}
    if fresh:
        note(_("added {mask} (fingerprint {fingerprint}): `openai2 chat` uses it", **shown))
    else:
        note(_("{mask} (fingerprint {fingerprint}) was there already", **shown))
    if home.environment_key() is not None:
        warn(_("OPENAI_API_KEY is set, and comes before the keys that are kept"))


@click.command(
    "read_apikey",
    help=_("List the API keys that are kept: each masked, and the fingerprint that the log names it by."),
)
@click.option("--reveal", is_flag=True, help=_("Show the keys whole, one a line."))
def read_apikey(reveal: bool) -> None:
    """List the keys."""
    keys = KeyFile(home.keys()).read()
    for key in keys:
        out(key if reveal else f"{mask(key)}  {fingerprint(key)}")
    if not keys:
        note(_("no API key is kept: `openai2 add_apikey` adds one"))
    if (first := home.environment_key()) is not None:
        note(_("OPENAI_API_KEY is set, to {mask}, and comes before these", mask=mask(first)))


@click.command(
    "clear_apikey",
    help=_("Remove all API keys that are kept."),
)
def clear_apikey() -> None:
    """Remove the keys."""
    file = KeyFile(home.keys())
    try:
        count = len(file.read())
    except Exception:  # noqa: BLE001 - whatever is wrong with the file, it is to go
        count = 0
    if not file.clear():
        note(_("there was no API key"))
    elif count:
        note(counted("removed {n} API key", "removed {n} API keys", count))
    else:
        note(_("removed the key file"))


def _asked() -> str:
    """The key from a terminal, unseen, or a line from a pipe."""
    if is_terminal(sys.stdin):
        from getpass import getpass

        try:
            line = getpass(_("API key (it is not shown): "), stream=sys.stderr)
        except EOFError:
            line = ""
    else:
        # Bytes that are no text are for the check of the key to refuse.
        line = sys.stdin.buffer.readline().decode("utf-8", "surrogateescape")
    line = line.rstrip("\r\n")
    if not line.strip():
        raise BadInput("no API key was given")
    return line


COMMANDS = {"add_apikey": add_apikey, "read_apikey": read_apikey, "clear_apikey": clear_apikey}
