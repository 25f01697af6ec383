"""`add_apikey`, `remove_apikey`, `read_apikey`, `clear_apikey`: the key file, from outside.

Rules: a key is shown masked unless `--reveal` asks for it whole; no error, prompt or note shows one. An
argument can be read by others on the machine while the command runs, so without one the key is asked for.
"""

from __future__ import annotations

import sys

import click

from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings import key_sources, paths
from openai2.cli.settings.database import database_exists, existing_engine
from openai2.cli.settings.key_file import Entry, KeyFile, check_name
from openai2.cli.terminal.i18n import _, counted, error_message
from openai2.cli.terminal.text import is_terminal, note, one_line, out, out_json
from openai2.cli.views.error_text import warn
from openai2.errors import BadInput, Openai2Error
from openai2.keys.pool import check_key, fingerprint, mask
from openai2.readmodels.usage import Line


# What looks like an option may be a key that was pasted wrong: no parser's error may quote it.
@click.command(
    "add_apikey",
    context_settings={"ignore_unknown_options": True},
    help=_(
        "Add an API KEY to those that chats use. With several keys the chats share the load among them.\n\n"
        "Without KEY it is asked for, unseen, or read as a line from a pipe: other people on the machine "
        "can see a command's arguments while it runs. With --command nothing is kept but the command, and "
        "with --keyring the key goes to the system's keyring (the package keyring has to be there).\n\n"
        "Which key is used: --key, else OPENAI_API_KEY, else the keys that are kept here."
    ),
)
@click.argument("key", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", metavar="NAME", help=_("A name, for `chat --key NAME` and for profiles."))
@click.option("--base-url", metavar="URL", help=_("The server that it is for; it is sent to no other."))
@click.option("--command", metavar="COMMAND", help=_('What prints the key, as "pass show openai" does.'))
@click.option(
    "--keyring", "in_keyring", is_flag=True, help=_("Keep it in the system's keyring, under its NAME.")
)
def add_apikey(
    key: tuple[str, ...], name: str | None, base_url: str | None, command: str | None, in_keyring: bool
) -> None:
    """Add a key."""
    if len(key) > 1:
        raise click.UsageError(_("one key at a time: there is no space in a key"))
    if command is not None and (key or in_keyring):
        raise click.UsageError(_("with --command there is no other key"))
    check_name(name)
    file = KeyFile(paths.keys())
    if command is not None:
        file.add(Entry(name=name, base_url=base_url, command=command))
        note(_("kept the command {command}: `openai2 chat` runs it", command=command))
    else:
        given = check_key(key[0] if key else _asked())
        keep = _to_keyring if in_keyring else _to_file
        shown = {"mask": mask(given), "fingerprint": fingerprint(given)}
        if keep(file, given, name, base_url):
            note(_("added {mask} (fingerprint {fingerprint}): `openai2 chat` uses it", **shown))
        else:
            note(_("{mask} (fingerprint {fingerprint}) was there already", **shown))
    if paths.environment_key() is not None:
        warn(_("OPENAI_API_KEY is set, and comes before the keys that are kept"))


def _to_file(file: KeyFile, key: str, name: str | None, base_url: str | None) -> bool:
    return file.add(Entry(key=key, name=name, base_url=base_url))


def _to_keyring(file: KeyFile, key: str, name: str | None, base_url: str | None) -> bool:
    if name is None:
        raise BadInput("the keyring finds a key by its name: give it one, with --name")
    key_sources.store_in_keyring(name, key)
    try:
        return file.add(Entry(name=name, base_url=base_url, keyring=True))
    except BadInput:
        key_sources.delete_from_keyring(name)
        raise


@click.command(
    "remove_apikey",
    help=_("Remove the API key with that NAME, or with that fingerprint, as `read_apikey` shows them."),
)
@click.argument("name")
def remove_apikey(name: str) -> None:
    """Remove a key."""
    gone = KeyFile(paths.keys()).remove(name)
    if gone.keyring:
        key_sources.delete_from_keyring(gone.name or "")
    note(_("removed {key}", key=_shown(gone)))


@click.command(
    "read_apikey",
    help=_(
        "List the API keys that are kept: each masked, the fingerprint that the log names it by, its name, "
        "the server that it is for, and its health: how many requests the usual database has of it, and how "
        "many of them failed.\n\n"
        "Which key is used: --key, else OPENAI_API_KEY, else these."
    ),
)
@click.option("--reveal", is_flag=True, help=_("Show the keys whole, one a line."))
@json_option
@db_option
def read_apikey(reveal: bool, as_json: bool, db: str | None) -> None:
    """List the keys."""
    entries = KeyFile(paths.keys()).entries()
    if reveal:
        for entry in entries:
            out(key_sources.key_of(entry))
    else:
        _list(entries, _health(db) if entries else {}, as_json=as_json)
    if not entries:
        note(_("no API key is kept: `openai2 add_apikey` adds one"))
    if (first := paths.environment_key()) is not None:
        note(_("OPENAI_API_KEY is set, to {mask}, and comes before these", mask=mask(first)))


def _list(entries: list[Entry], health: dict[str, Line], *, as_json: bool) -> None:
    lines = [(entry, None if entry.key is None else fingerprint(entry.key)) for entry in entries]
    if as_json:
        out_json([_as_object(entry, known, health.get(known or "")) for entry, known in lines])
        return
    for entry, known in lines:
        words = [_shown(entry), known, entry.name, entry.base_url, _told(health.get(known or ""))]
        out("  ".join(one_line(word) for word in words if word))


def _as_object(entry: Entry, known: str | None, health: Line | None) -> dict[str, object]:
    return {
        "mask": None if entry.key is None else mask(entry.key),
        "fingerprint": known,
        "name": entry.name,
        "base_url": entry.base_url,
        "command": entry.command,
        "keyring": entry.keyring,
        "requests": 0 if health is None else health.requests,
        "failures": 0 if health is None else health.failures,
    }


def _shown(entry: Entry) -> str:
    if entry.key is not None:
        return mask(entry.key)
    return _("in the keyring") if entry.keyring else _("printed by: {command}", command=entry.command)


def _told(health: Line | None) -> str | None:
    if health is None:
        return None
    requests = counted("{n} request", "{n} requests", health.requests)
    return _("{requests}, {failed} failed", requests=requests, failed=health.failures)


def _health(db: str | None) -> dict[str, Line]:
    """What the database says of each key, by its fingerprint; no key is kept from sight by a bad database."""
    if not database_exists(db):
        return {}
    try:
        with existing_engine(db) as engine:
            return {line.name: line for line in engine.stats("key")}
    except Openai2Error as error:
        warn(error_message(error))
        return {}


@click.command(
    "clear_apikey",
    help=_("Remove all API keys that are kept."),
)
def clear_apikey() -> None:
    """Remove the keys."""
    file = KeyFile(paths.keys())
    try:
        count = len(file.entries())
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


COMMANDS = {
    "add_apikey": add_apikey,
    "read_apikey": read_apikey,
    "remove_apikey": remove_apikey,
    "clear_apikey": clear_apikey,
}
