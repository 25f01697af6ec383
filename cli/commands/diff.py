"""`diff`: two conversations side by side, aligned by question.

Invariants:
- Words that only one answer has are marked, `[-…-]` on the left and `{+…+}` on the right, so that they can be
  seen without colours.
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
from openai2.cli.views.event_text import answer_facts
from openai2.history.diff import Branch, Diff, Row, Side

_NARROW = 50  # with fewer columns, the sides are shown one below the other
_MARKS = {"a": ("[-", "-]"), "b": ("{+", "+}")}


@click.command(
    "diff",
    help=_(
        "Show two conversations side by side, A on the left and B on the right, aligned by question: the "
        "same answers, changed words, rounds that only one has, with model, tokens and seconds. Either may "
        "have a version: A@12."
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
        compared = engine.diff(left.conversation, right.conversation, (left.version, right.version))
    if as_json:
        out_json(compared)
        return
    for line in _lines(compared, screen()):
        out(line)
    note(
        _(
            "{same} the same, {changed} changed, {a} only on the left, {b} only on the right",
            same=compared.same,
            changed=compared.changed,
            a=compared.only_a,
            b=compared.only_b,
        )
    )


def _lines(compared: Diff, columns: int) -> Iterator[str]:
    yield from _side_by_side([_summary(compared.a)], [_summary(compared.b)], columns)
    for row in compared.rows:
        yield ""
        mark = {"same": "=", "changed": "~", "only_a": "<", "only_b": ">"}[row.status]
        question = one_line(row.text) if row.question is not None else _("(before the first question)")
        yield paint(clip(f"{mark} {question}", columns), "bold")
        if row.status == "same" and row.a is not None:
            yield from (f"  {line}".rstrip() for line in fold(visible(row.a.text), columns - 2))
            continue
        yield from _side_by_side(_answer(row, row.a, "a"), _answer(row, row.b, "b"), columns)


def _summary(branch: Branch) -> str:
    totals = branch.totals
    facts = [
        f"{branch.name or branch.conversation}@{branch.version}",
        counted("{n} round", "{n} rounds", totals.rounds),
        *totals.models,
        *answer_facts(None, _usage(totals.prompt_tokens, totals.completion_tokens), totals.seconds),
    ]
    return one_line(" · ".join(facts))


def _answer(row: Row, side: Side | None, name: str) -> list[str]:
    """Return the answer of one side with its own words marked, and its facts."""
    if side is None:
        return []
    before, after = _MARKS[name]
    words = [
        part.text if part.side == "both" else f"{before}{part.text}{after}"
        for part in row.words
        if part.side in ("both", name)
    ]
    text = "".join(words) if row.status == "changed" and words else side.text
    usage = _usage(side.prompt_tokens, side.completion_tokens)
    facts = answer_facts(side.model, usage, side.seconds, side.finish_reason, stopped=side.stopped)
    return [visible(text), f"({one_line(' · '.join(facts))})"] if facts else [visible(text)]


def _usage(prompt_tokens: int | None, completion_tokens: int | None) -> dict[str, int | None]:
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}


def _side_by_side(left: list[str], right: list[str], columns: int) -> Iterator[str]:
    """Yield two texts side by side, or one below the other on a narrow terminal."""
    if columns < _NARROW:
        for mark, side in (("<", left), (">", right)):
            for text in side:
                yield from (f"{mark} {line}".rstrip() for line in fold(text, columns - 2))
        return
    half = (columns - 5) // 2
    sides = [[line for text in side for line in fold(text, half)] for side in (left, right)]
    for a, b in zip_longest(*sides, fillvalue=""):
        yield f"  {pad(a, half)} | {b}".rstrip()


COMMANDS = {"diff": diff}
