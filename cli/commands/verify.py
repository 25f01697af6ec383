"""`verify` and `rebuild`: check the whole store, and rebuild its derived tables."""

from __future__ import annotations

from typing import TextIO

import click

from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted, message
from openai2.cli.terminal.progress import progress
from openai2.cli.terminal.text import note, one_line, out, out_json
from openai2.errors import BadInput

_FIELDS = ("conversation", "version", "position", "what")  # of a problem in JSON


@click.command(
    "verify",
    help=_(
        "Recompute every hash, number and derived table from the events, and list the problems; the exit "
        "status is 1 if there are any. To detect that the last events were cut off, give --heads, a "
        "file with lines that `head` printed earlier, or --head, a single hash from such a line."
    ),
)
@click.option(
    "--heads", type=click.File(encoding="utf-8"), metavar="FILE", help=_("Compare with the heads in FILE.")
)
@click.option(
    "--head", "hashes", multiple=True, metavar="HASH", help=_("Check that this head exists. Repeatable.")
)
@json_option
@db_option
def verify(heads: TextIO | None, hashes: tuple[str, ...], as_json: bool, db: str | None) -> None:
    """Verify the store."""
    kept = {} if heads is None else _read_heads(heads)
    with existing_engine(db) as engine, progress(_("verifying")) as line:
        # A hash identifies its conversation; naming that only makes the report clearer.
        report = engine.verify([*kept.values(), *hashes] if hashes else kept, line)
    if as_json:
        problems = [{name: getattr(problem, name) for name in _FIELDS} for problem in report.problems]
        counts = {"conversations": report.conversations, "events": report.events}
        out_json({"ok": report.ok, **counts, "problems": problems})
    else:
        for problem in report.problems:
            version = "" if problem.version is None else f"@{problem.version}"
            text = message(problem.template, problem.facts)
            out(one_line(f"{problem.conversation or ''}{version} {text}"))
        if report.ok:
            events = counted("{n} event", "{n} events", report.events)
            streams = counted("{n} conversation", "{n} conversations", report.conversations)
            note(_("nothing was altered: {events} in {streams}", events=events, streams=streams))
    if not report.ok:
        raise click.ClickException(
            counted("{n} problem was found", "{n} problems were found", len(report.problems))
        )


@click.command(
    "rebuild",
    help=_("Drop all derived tables and rebuild them from the events, which are not touched."),
)
@db_option
def rebuild(db: str | None) -> None:
    """Rebuild the derived tables."""
    with existing_engine(db) as engine:
        engine.rebuild()
    note(_("the derived tables were rebuilt"))


def _read_heads(file: TextIO) -> dict[str, str]:
    """Return the hash of each conversation id from lines that `head` printed. Raises BadInput."""
    heads: dict[str, str] = {}
    for number, line in enumerate(file, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3:
            raise BadInput(
                "invalid heads file, line {number}: expected an id, a version and a hash, as `openai2 head` "
                "prints them",
                number=number,
            )
        heads[words[0]] = words[2]
    return heads


COMMANDS = {"verify": verify, "rebuild": rebuild}
