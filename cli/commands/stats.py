"""`stats`: what requests have cost, by key, model or day, with a small chart."""

from __future__ import annotations

import sys
from typing import Literal, cast

import click

from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings.database import database_exists, existing_engine
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import is_terminal, note, one_line, out, out_json, paint, screen, table
from openai2.readmodels.usage import Line

By = Literal["key", "model", "day"]
_BAR = 20  # columns
_NARROW = 72  # columns, below which there is no chart


@click.command(
    "stats",
    help=_(
        "Tell what requests have cost, as the log has it: how many, how many of them failed, tokens sent and "
        "received, seconds. Keys are named by their fingerprints, as `read_apikey` shows them; days are "
        "those of UTC. The chart is of tokens, or of requests where no server counted any."
    ),
)
@click.option(
    "--by",
    type=click.Choice(["key", "model", "day"]),
    default="model",
    show_default=True,
    help=_("What a line is of."),
)
@json_option
@db_option
def stats(by: str, as_json: bool, db: str | None) -> None:
    """Tell what requests have cost."""
    lines: list[Line] = []
    if database_exists(db):
        with existing_engine(db) as engine:
            lines = engine.stats(cast(By, by))
    if as_json:
        out_json(lines)
    elif lines:
        _tell(by, lines)
    else:
        note(_("nothing has been asked yet"))


def _tell(by: str, lines: list[Line]) -> None:
    columns = screen() if is_terminal(sys.stdout) else 1_000_000
    chart = columns >= _NARROW
    titles = {"key": _("key"), "model": _("model"), "day": _("day")}
    rows = [[titles[by], _("requests"), _("failed"), _("sent"), _("received"), _("seconds")]]
    for line in lines:
        numbers = (line.requests, line.failures, line.prompt_tokens, line.completion_tokens)
        rows.append([one_line(line.name) or _("(unknown)"), *map(str, numbers), f"{line.seconds:.1f}"])
    for row, bar in zip(rows, ["", *_bars(lines)], strict=True):
        row.append(bar if chart else "")
    for place, text in enumerate(table(rows, columns, right=frozenset(range(1, 6)))):
        out(text if place else paint(text, "dim"))


def _bars(lines: list[Line]) -> list[str]:
    sizes = [line.prompt_tokens + line.completion_tokens for line in lines]
    if not any(sizes):
        sizes = [line.requests for line in lines]
    most = max(sizes) or 1
    return ["#" * max(round(_BAR * size / most), 1 if size else 0) for size in sizes]


COMMANDS = {"stats": stats}
