"""`add_apikey`, `remove_apikey`, `read_apikey`, `clear_apikey`: manage the stored API keys.

Invariants:
- A key is shown masked unless `--reveal` is given; no error, prompt or note contains a key.
- Without an argument the key is asked for, because other users can see the arguments of a running command.
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


# A mistyped key may look like an option; click must not quote it in an error.
@click.command(
    "add_apikey",
    context_settings={"ignore_unknown_options": True},
    help=_(
        "Store the API key KEY for chats. Several keys share the load.\n\n"
        "Without KEY, ask for it without showing it, or read a line from a pipe: other users can see the "
        "arguments of a running command. With --command, store only the command; with --keyring, store "
        "the key in the system keyring (needs the package keyring).\n\n"
        "Chats use the key of --key, else of OPENAI_API_KEY, else the stored keys."
    ),
)
@click.argument("key", nargs=-1, type=click.UNPROCESSED)
@click.option("--name", metavar="NAME", help=_("Give the key a name, for `chat --key NAME` and profiles."))
@click.option("--base-url", metavar="URL", help=_("Send the key to this server only."))
@click.option(
    "--command", metavar="COMMAND", help=_('Get the key from this command, such as "pass show openai".')
)
@click.option("--keyring", "in_keyring", is_flag=True, help=_("Store it in the system keyring, under NAME."))
def add_apikey(
    key: tuple[str, ...], name: str | None, base_url: str | None, command: str | None, in_keyring: bool
) -> None:
    """Store a key."""
    if len(key) > 1:
        raise click.UsageError(_("give one key at a time: a key contains no space"))
    if command is not None and (key or in_keyring):
        raise click.UsageError(_("give either --command or a key"))
    check_name(name)
    file = KeyFile(paths.keys())
    if command is not None:
        file.add(Entry(name=name, base_url=base_url, command=command))
        note(_("stored the command {command}: `openai2 chat` runs it", command=command))
    else:
        new_key = check_key(key[0] if key else _ask_for_key())
        shown = {"mask": mask(new_key), "fingerprint": fingerprint(new_key)}
        if _store(file, new_key, name, base_url, in_keyring=in_keyring):
            note(_("added {mask} (fingerprint {fingerprint}): `openai2 chat` uses it", **shown))
        else:
            note(_("{mask} (fingerprint {fingerprint}) is stored already", **shown))
    if paths.environment_key() is not None:
        warn(_("OPENAI_API_KEY is set and is used before the stored keys"))


def _store(file: KeyFile, key: str, name: str | None, base_url: str | None, *, in_keyring: bool) -> bool:
    """Store a key in the file or the keyring; return False if it is there already. Raises BadInput."""
    if not in_keyring:
        return file.add(Entry(key=key, name=name, base_url=base_url))
    if name is None:
        raise BadInput("the system keyring finds keys by name: give one with --name")
    key_sources.store_in_keyring(name, key)
    try:
        return file.add(Entry(name=name, base_url=base_url, keyring=True))
    except BadInput:
        key_sources.delete_from_keyring(name)
        raise


@click.command(
    "remove_apikey",
    help=_("Remove the API key with the name or fingerprint NAME, as `read_apikey` shows it."),
)
@click.argument("name")
def remove_apikey(name: str) -> None:
    """Remove a key."""
    removed = KeyFile(paths.keys()).remove(name)
    if removed.keyring:
        key_sources.delete_from_keyring(removed.name or "")
    note(_("removed {key}", key=_masked(removed)))


@click.command(
    "read_apikey",
    help=_(
        "List the stored API keys: masked, with the fingerprint used in the log, the name, the server, and "
        "the number of requests and failures in the database.\n\n"
        "Chats use the key of --key, else of OPENAI_API_KEY, else these."
    ),
)
@click.option("--reveal", is_flag=True, help=_("Print the complete keys, one a line."))
@json_option
@db_option
def read_apikey(reveal: bool, as_json: bool, db: str | None) -> None:
    """List the keys."""
    entries = KeyFile(paths.keys()).entries()
    if reveal:
        for entry in entries:
            out(key_sources.key_of(entry))
    else:
        _list(entries, _usage(db) if entries else {}, as_json=as_json)
    if not entries:
        note(_("there is no stored API key: `openai2 add_apikey` adds one"))
    if (key := paths.environment_key()) is not None:
        note(_("OPENAI_API_KEY is set to {mask} and is used before these", mask=mask(key)))


def _list(entries: list[Entry], usage: dict[str, Line], *, as_json: bool) -> None:
    fingerprints = [None if entry.key is None else fingerprint(entry.key) for entry in entries]
    rows = [
        (entry, known, usage.get(known or "")) for entry, known in zip(entries, fingerprints, strict=True)
    ]
    if as_json:
        out_json([_to_object(*row) for row in rows])
        return
    for entry, known, line in rows:
        words = [_masked(entry), known, entry.name, entry.base_url, _usage_text(line)]
        out("  ".join(one_line(word) for word in words if word))


def _to_object(entry: Entry, known: str | None, line: Line | None) -> dict[str, object]:
    return {
        "mask": None if entry.key is None else mask(entry.key),
        "fingerprint": known,
        "name": entry.name,
        "base_url": entry.base_url,
        "command": entry.command,
        "keyring": entry.keyring,
        "requests": 0 if line is None else line.requests,
        "failures": 0 if line is None else line.failures,
    }


def _masked(entry: Entry) -> str:
    if entry.key is not None:
        return mask(entry.key)
    return _("in the keyring") if entry.keyring else _("printed by: {command}", command=entry.command)


def _usage_text(line: Line | None) -> str | None:
    if line is None:
        return None
    requests = counted("{n} request", "{n} requests", line.requests)
    return _("{requests}, {failed} failed", requests=requests, failed=line.failures)


def _usage(db: str | None) -> dict[str, Line]:
    """Return the usage of each key by fingerprint; a database that cannot be read gives a warning only."""
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
    help=_("Remove all stored API keys."),
)
def clear_apikey() -> None:
    """Remove the keys."""
    file = KeyFile(paths.keys())
    try:
        count = len(file.entries())
    except Exception:  # noqa: BLE001 - a damaged file is removed, too
        count = 0
    if not file.clear():
        note(_("there was no API key"))
    elif count:
        note(counted("removed {n} API key", "removed {n} API keys", count))
    else:
        note(_("removed the key file"))


def _ask_for_key() -> str:
    """Read the key from the terminal without showing it, or from the first line of a pipe."""
    if is_terminal(sys.stdin):
        from getpass import getpass

        try:
            line = getpass(_("API key (not shown): "), stream=sys.stderr)
        except EOFError:
            line = ""
    else:
        # check_key refuses bytes that are not text.
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
