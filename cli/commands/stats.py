"""`stats`: requests, failures, tokens and seconds by key, model or day, with a chart."""

from __future__ import annotations

from typing import Literal, cast

import click

from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings.database import database_exists, existing_engine
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, one_line, out, out_json, output_columns, paint, table
from openai2.readmodels.usage import Line

By = Literal["key", "model", "day"]
_BAR_WIDTH = 20  # columns
_NARROW = 72  # with fewer columns, there is no chart


@click.command(
    "stats",
    help=_(
        "Show the usage that the log records: requests, failures, tokens sent and received, seconds. Keys "
        "are shown as fingerprints (see `read_apikey`); days are in UTC. The chart shows tokens, or requests "
        "if no server counted tokens."
    ),
)
@click.option(
    "--by",
    type=click.Choice(["key", "model", "day"]),
    default="model",
    show_default=True,
    help=_("Group the requests by key, model or day."),
)
@json_option
@db_option
def stats(by: str, as_json: bool, db: str | None) -> None:
    """Show the usage."""
    lines: list[Line] = []
    if database_exists(db):
        with existing_engine(db) as engine:
            lines = engine.stats(cast(By, by))
    if as_json:
        out_json(lines)
    elif lines:
        _print_table(by, lines)
    else:
        note(_("there are no requests yet"))


def _print_table(by: str, lines: list[Line]) -> None:
    columns = output_columns()
    titles = {"key": _("key"), "model": _("model"), "day": _("day")}
    rows = [[titles[by], _("requests"), _("failed"), _("sent"), _("received"), _("seconds"), ""]]
    for line, bar in zip(lines, _bars(lines), strict=True):
        numbers = (line.requests, line.failures, line.prompt_tokens, line.completion_tokens)
        name = one_line(line.name) or _("(unknown)")
        rows.append([name, *map(str, numbers), f"{line.seconds:.1f}", bar if columns >= _NARROW else ""])
    header, *texts = table(rows, columns, right=frozenset(range(1, 6)))
    out(paint(header, "dim"))
    for text in texts:
        out(text)


def _bars(lines: list[Line]) -> list[str]:
    sizes = [line.prompt_tokens + line.completion_tokens for line in lines]
    if not any(sizes):
        sizes = [line.requests for line in lines]
    largest = max(sizes) or 1
    return ["#" * max(round(_BAR_WIDTH * size / largest), 1 if size else 0) for size in sizes]


COMMANDS = {"stats": stats}
