"""Compare two branches side by side, aligned by question.

Invariants:
- `compare` is a pure function of two lists of exchanges.
- Two questions are equal if the whole user messages are equal. The longest common sequence of questions is
  aligned; every other exchange appears in one branch only.
- An answer is everything between a question and the next one, tool calls and results included. Messages
  before the first question (a system prompt) form an exchange without a question.

`Engine.diff` resolves the names, reads both branches with `read_branch`, and joins them with `diff`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.textdiff import Words, align
from openai2.core.textdiff import compare as compare_words
from openai2.core.typeguards import is_int
from openai2.errors import Refused
from openai2.history import views
from openai2.history.lineage import Lineage
from openai2.history.messages import events_by_id
from openai2.store import Reader

_encode = msgspec.json.Encoder(order="sorted").encode


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One branch's answer to a question, and what it cost.

    *id* is the message id of the question, *messages* are those of the answer, *text* is their readable
    text. *model* and *finish_reason* are those of the exchange's last answer; tokens and seconds are sums
    over all its answers, None if the log has none.
    """

    id: int | None = None
    messages: list[dict[str, Any]] = []
    text: str = ""
    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    stopped: bool = False


class Exchange(msgspec.Struct, frozen=True):
    """A question of one branch and its answer; *question* is None for what precedes the first one."""

    question: dict[str, Any] | None
    side: Side


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One question and the answers of both branches.

    *status* is "same", "changed", "only_a" or "only_b"; *words* is the word diff of a changed answer.
    """

    status: str
    question: dict[str, Any] | None
    text: str
    a: Side | None = None
    b: Side | None = None
    words: list[Words] = []


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The sums over one branch's exchanges."""

    rounds: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    models: list[str] = []


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation at a version, and its totals."""

    conversation: str
    name: str | None = None
    version: int = 0
    totals: Totals = Totals()


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """Two branches side by side, and the number of rows by status."""

    a: Branch
    b: Branch
    rows: list[Row]
    same: int = 0
    changed: int = 0
    only_a: int = 0
    only_b: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the diff as plain dicts and lists, ready for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


_STATUSES = ("same", "changed", "only_a", "only_b")


def diff(a: tuple[Branch, Sequence[Exchange]], b: tuple[Branch, Sequence[Exchange]]) -> Diff:
    """Return the diff of two branches. Raises Refused if they have no question in common."""
    (left, left_exchanges), (right, right_exchanges) = a, b
    rows = compare(left_exchanges, right_exchanges)
    if (left_exchanges or right_exchanges) and not any(row.a and row.b and row.question for row in rows):
        raise Refused(
            "{a} and {b} have no question in common: there is nothing to compare",
            a=left.name or left.conversation,
            b=right.name or right.conversation,
        )
    counts = {status: sum(row.status == status for row in rows) for status in _STATUSES}
    return Diff(a=left, b=right, rows=rows, **counts)


def compare(a: Sequence[Exchange], b: Sequence[Exchange]) -> list[Row]:
    """Return the rows of both branches in order; between two aligned rows, those of *a* come first."""
    rows: list[Row] = []
    i = j = 0
    for left, right, size in [*_aligned(a, b), (len(a), len(b), 0)]:
        rows += [_one_sided("only_a", exchange) for exchange in a[i:left]]
        rows += [_one_sided("only_b", exchange) for exchange in b[j:right]]
        rows += [_two_sided(a[left + k], b[right + k]) for k in range(size)]
        i, j = left + size, right + size
    return rows


def _aligned(a: Sequence[Exchange], b: Sequence[Exchange]) -> list[tuple[int, int, int]]:
    """Return (start in *a*, start in *b*, length) of each common stretch of questions."""
    left, right = ([_encode(exchange.question).decode() for exchange in side] for side in (a, b))
    if set(left).isdisjoint(right):
        return []
    return align(left, right) or []


def _one_sided(status: str, exchange: Exchange) -> Row:
    a, b = (exchange.side, None) if status == "only_a" else (None, exchange.side)
    return Row(status=status, question=exchange.question, text=_text_of([exchange.question]), a=a, b=b)


def _two_sided(a: Exchange, b: Exchange) -> Row:
    same = _encode(a.side.messages) == _encode(b.side.messages)
    return Row(
        status="same" if same else "changed",
        question=a.question,
        text=_text_of([a.question]),
        a=a.side,
        b=b.side,
        words=[] if same else compare_words(a.side.text, b.side.text),
    )


def _text_of(messages: Iterable[dict[str, Any] | None]) -> str:
    return "\n".join(msg.text_of(message) for message in messages if message is not None)


# -- from the log


def read_branch(
    reader: Reader, conversation: str, name: str | None, version: int
) -> tuple[Branch, list[Exchange]]:
    """Return the branch of a conversation at *version*, and its exchanges."""
    lineage = Lineage.read(reader, conversation)
    ids = views.view_at(reader, lineage, version).ids
    exchanges: list[Exchange] = []
    messages: list[dict[str, Any]] = []
    answers: list[ev.Answer] = []
    start = 0
    for index, event in enumerate(events_by_id(reader, lineage, ids)):
        assert isinstance(event, ev.MessageAdded)
        message = msg.decode(bytes(event.message))
        if messages and msg.kind(message) == msg.USER:
            exchanges.append(_exchange(ids[start], messages, answers))
            messages, answers, start = [], [], index
        messages.append(message)
        if event.answer is not None:
            answers.append(event.answer)
    if messages:
        exchanges.append(_exchange(ids[start], messages, answers))
    branch = Branch(conversation=conversation, name=name, version=version, totals=_totals(exchanges))
    return branch, exchanges


def _exchange(number: int, messages: list[dict[str, Any]], answers: list[ev.Answer]) -> Exchange:
    has_question = msg.kind(messages[0]) == msg.USER
    rest = messages[has_question:]
    last = answers[-1] if answers else ev.Answer()
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    side = Side(
        id=number if has_question else None,
        messages=rest,
        text=_text_of(rest),
        model=last.model,
        finish_reason=last.finish_reason,
        prompt_tokens=_tokens(answers, "prompt_tokens"),
        completion_tokens=_tokens(answers, "completion_tokens"),
        seconds=round(sum(seconds), 6) if seconds else None,
        stopped=any(answer.stopped for answer in answers),
    )
    return Exchange(messages[0] if has_question else None, side)


def _tokens(answers: Iterable[ev.Answer], name: str) -> int | None:
    counts = [count for answer in answers if is_int(count := (answer.usage or {}).get(name))]
    return sum(counts) if counts else None


def _totals(exchanges: Iterable[Exchange]) -> Totals:
    sides = [exchange.side for exchange in exchanges if exchange.question is not None]
    return Totals(
        rounds=len(sides),
        prompt_tokens=sum(side.prompt_tokens or 0 for side in sides),
        completion_tokens=sum(side.completion_tokens or 0 for side in sides),
        seconds=round(sum(side.seconds or 0.0 for side in sides), 6),
        models=sorted({side.model for side in sides if side.model}),
    )
