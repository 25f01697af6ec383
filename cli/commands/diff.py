"""`diff`: two branches side by side, aligned by the question that they answer.

Rule: what only one of the answers says is marked in it, in [-brackets-] on the left and {+braces+} on the
right, so that it can be told without colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import db_option, json_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import clip, fold, note, one_line, out, out_json, pad, paint, screen, visible
from openai2.history.diff import Branch, Diff, Row, Side

_NARROW = 50  # columns, below which the sides stand one under the other
_MARKS = {"a": ("[-", "-]"), "b": ("{+", "+}")}


@click.command(
    "diff",
    help=_(
        "Show two conversations side by side, A on the left and B on the right, aligned by the question that "
        "they answer: what is the same, what changed (in words), what only one has, with model, tokens and "
        "seconds. Both may be of a version: A@12."
    ),
)
@click.argument("a", shell_complete=conversations)
@click.argument("b", shell_complete=conversations)
@json_option
@db_option
def diff(a: str, b: str, as_json: bool, db: str | None) -> None:
    """Compare two conversations."""
    with existing_engine(db) as engine:
        left, right = refs.find(engine, a), refs.find(engine, b)
        found = engine.diff(left.conversation, right.conversation, (left.version, right.version))
    if as_json:
        out_json(found)
        return
    for line in _lines(found, screen()):
        out(line)
    note(
        _(
            "{same} the same, {changed} changed, {a} only on the left, {b} only on the right",
            same=found.same,
            changed=found.changed,
            a=found.only_a,
            b=found.only_b,
        )
    )


def _lines(found: Diff, columns: int) -> Iterator[str]:
    yield from _beside([_head(found.a)], [_head(found.b)], columns)
    for row in found.rows:
        yield ""
        mark = {"same": "=", "changed": "~", "only_a": "<", "only_b": ">"}[row.status]
        question = one_line(row.text) if row.question is not None else _("(before the first question)")
        yield paint(clip(f"{mark} {question}", columns), "bold")
        if row.status == "same" and row.a is not None:
            yield from (f"  {line}".rstrip() for line in fold(visible(row.a.text), columns - 2))
            continue
        yield from _beside(_told(row, row.a, "a"), _told(row, row.b, "b"), columns)


def _head(branch: Branch) -> str:
    sums = branch.totals
    facts = [
        f"{branch.name or branch.conversation}@{branch.version}",
        counted("{n} round", "{n} rounds", sums.rounds),
        *sums.models,
        _("{asked} + {came} tokens", asked=sums.prompt_tokens, came=sums.completion_tokens),
        _("{seconds} s", seconds=f"{sums.seconds:.2f}"),
    ]
    return one_line(" · ".join(facts))


def _told(row: Row, side: Side | None, name: str) -> list[str]:
    """An answer, with what is its own marked, and what it took."""
    if side is None:
        return []
    before, after = _MARKS[name]
    words = [
        part.text if part.side == "both" else f"{before}{part.text}{after}"
        for part in row.words
        if part.side in ("both", name)
    ]
    text = "".join(words) if row.status == "changed" and words else side.text
    return [visible(text), *filter(None, [_facts(side)])]


def _facts(side: Side) -> str:
    facts = [side.model or ""]
    if side.prompt_tokens is not None:
        facts.append(_("{asked} + {came} tokens", asked=side.prompt_tokens, came=side.completion_tokens or 0))
    if side.seconds is not None:
        facts.append(_("{seconds} s", seconds=f"{side.seconds:.2f}"))
    if side.finish_reason not in (None, "stop"):
        facts.append(str(side.finish_reason))
    if side.stopped:
        facts.append(_("stopped early"))
    told = one_line(" · ".join(filter(None, facts)))
    return f"({told})" if told else ""


def _beside(left: list[str], right: list[str], columns: int) -> Iterator[str]:
    """Two texts beside each other, or one under the other where there is no room."""
    if columns < _NARROW:
        for mark, side in (("<", left), (">", right)):
            for text in side:
                yield from (f"{mark} {line}".rstrip() for line in fold(text, columns - 2))
        return
    half = (columns - 5) // 2
    sides = [[line for text in side for line in fold(text, half)] for side in (left, right)]
    for one, other in zip_longest(*sides, fillvalue=""):
        yield f"  {pad(one, half)} | {other}".rstrip()


COMMANDS = {"diff": diff}
