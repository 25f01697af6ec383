"""`verify` and `rebuild`: whether the whole store still holds, and how its derived tables are made anew."""

from __future__ import annotations

from typing import TextIO

import click

from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted, message
from openai2.cli.terminal.progress import progress
from openai2.cli.terminal.text import note, one_line, out, out_json
from openai2.errors import BadInput


@click.command(
    "verify",
    help=_(
        "Recompute every hash, number and derived table from the events, and name what is wrong; the exit "
        "status is then 1. A tail that was cut off is found by --heads: lines that `head` printed earlier "
        "and that were kept elsewhere; or by --head, a single hash of these."
    ),
)
@click.option(
    "--heads", type=click.File(encoding="utf-8"), metavar="FILE", help=_("Compare with these heads.")
)
@click.option(
    "--head", "hashes", multiple=True, metavar="HASH", help=_("Find this head, too; may be said again.")
)
@json_option
@db_option
def verify(heads: TextIO | None, hashes: tuple[str, ...], as_json: bool, db: str | None) -> None:
    """Verify the store."""
    kept = {} if heads is None else _heads(heads)
    with existing_engine(db) as engine, progress(_("verifying")) as line:
        # A hash commits to its conversation; naming that only makes what is told clearer.
        report = engine.verify([*kept.values(), *hashes] if hashes else kept, line)
    if as_json:
        out_json(
            {
                "ok": report.ok,
                "conversations": report.conversations,
                "events": report.events,
                "problems": [
                    {
                        "conversation": problem.conversation,
                        "version": problem.version,
                        "position": problem.position,
                        "what": problem.what,
                    }
                    for problem in report.problems
                ],
            }
        )
    else:
        for problem in report.problems:
            place = [problem.conversation or "", "" if problem.version is None else f"@{problem.version}"]
            out(one_line(f"{''.join(place)} {message(problem.template, problem.facts)}".lstrip()))
        events = counted("{n} event", "{n} events", report.events)
        streams = counted("{n} conversation", "{n} conversations", report.conversations)
        if report.ok:
            note(_("all is as it was written: {events} in {streams}", events=events, streams=streams))
    if not report.ok:
        raise click.ClickException(
            counted("{n} problem was found", "{n} problems were found", len(report.problems))
        )


@click.command(
    "rebuild",
    help=_("Drop every table that is derived, and make it anew from the events, which are not touched."),
)
@db_option
def rebuild(db: str | None) -> None:
    """Rebuild the derived tables."""
    with existing_engine(db) as engine:
        engine.rebuild()
    note(_("the derived tables were made anew"))


def _heads(file: TextIO) -> dict[str, str]:
    """The heads in lines of id, version and hash, as `head` prints them."""
    heads: dict[str, str] = {}
    for number, line in enumerate(file, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 3:
            raise BadInput(
                "line {number} of the heads is not what `openai2 head` prints: an id, a version and a hash",
                number=number,
            )
        heads[words[0]] = words[2]
    return heads


COMMANDS = {"verify": verify, "rebuild": rebuild}
