"""Two branches side by side, aligned by the question that they answer.

Rules: `compare` is a pure function of two lists of rounds. Questions are the same where the user messages
are, in every part; the longest sequence of questions that both ask in the same order is aligned, the rest
stands in one branch only. What stands before the first question (a system prompt) is a round without a
question. An answer is everything that came after its question, tool calls and results included.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

import msgspec

from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.textdiff import Words, align
from openai2.core.textdiff import compare as compare_words
from openai2.core.typeguards import is_int
from openai2.errors import Refused
from openai2.history import views

if TYPE_CHECKING:
    from openai2.engine import Engine

_encode = msgspec.json.Encoder(order="sorted").encode


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One branch's answer to a question: what was said, and what it took.

    *id* is that of the question (see `openai2.core.events`), *messages* those of the answer, *text* what a
    person reads of them. *model* and *finish_reason* are those of the last answer in the round, the
    numbers are sums over all; None where nothing on record says so.
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
    """A round of one branch; *question* is None for what stands before the first one."""

    question: dict[str, Any] | None
    side: Side


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One question and what the branches answered.

    *status* is "same", "changed", "only_a" or "only_b"; *words* tells a changed answer's text apart.
    """

    status: str
    question: dict[str, Any] | None
    text: str
    a: Side | None = None
    b: Side | None = None
    words: list[Words] = []


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The sums over one branch's rounds."""

    rounds: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    models: list[str] = []


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """Which branch, at which version, and its sums."""

    conversation: str
    name: str | None = None
    version: int = 0
    totals: Totals = Totals()


class Diff(msgspec.Struct, frozen=True, kw_only=True):
    """Two branches side by side; the counts are those of the rows, by status."""

    a: Branch
    b: Branch
    rows: list[Row]
    same: int = 0
    changed: int = 0
    only_a: int = 0
    only_b: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain dicts and lists, ready for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


def compare(a: Sequence[Exchange], b: Sequence[Exchange]) -> list[Row]:
    """The rows of both, in order; where both have their own, those of *a* come first."""
    rows: list[Row] = []
    i = j = 0
    for left, right, size in [*_aligned(a, b), (len(a), len(b), 0)]:
        rows += [_alone("only_a", held) for held in a[i:left]]
        rows += [_alone("only_b", held) for held in b[j:right]]
        rows += [_together(a[left + k], b[right + k]) for k in range(size)]
        i, j = left + size, right + size
    return rows


def _aligned(a: Sequence[Exchange], b: Sequence[Exchange]) -> list[tuple[int, int, int]]:
    left, right = ([_encode(held.question).decode() for held in side] for side in (a, b))
    if set(left).isdisjoint(right):
        return []
    found = align(left, right)
    if found is None:  # thousands of rounds that differ: good matches rather than the best
        blocks = SequenceMatcher(None, left, right, autojunk=False).get_matching_blocks()
        found = [(block.a, block.b, block.size) for block in blocks]
    return found


def totals(rounds: Iterable[Exchange]) -> Totals:
    """The sums over these rounds."""
    sides = [held.side for held in rounds if held.question is not None]
    return Totals(
        rounds=len(sides),
        prompt_tokens=sum(side.prompt_tokens or 0 for side in sides),
        completion_tokens=sum(side.completion_tokens or 0 for side in sides),
        seconds=round(sum(side.seconds or 0.0 for side in sides), 6),
        models=sorted({side.model for side in sides if side.model}),
    )


def _alone(status: str, held: Exchange) -> Row:
    a, b = (held.side, None) if status == "only_a" else (None, held.side)
    return Row(status=status, question=held.question, text=_said([held.question]), a=a, b=b)


def _together(a: Exchange, b: Exchange) -> Row:
    same = _encode(a.side.messages) == _encode(b.side.messages)
    return Row(
        status="same" if same else "changed",
        question=a.question,
        text=_said([a.question]),
        a=a.side,
        b=b.side,
        words=[] if same else compare_words(a.side.text, b.side.text),
    )


def _said(messages: Iterable[dict[str, Any] | None]) -> str:
    return "\n".join(msg.text_of(message) for message in messages if message is not None)


# -- from the log


def rounds(conversation: Conversation, version: int | None = None) -> list[Exchange]:
    """The rounds of the conversation's view, today's or that at *version*, with what they took."""
    held = conversation.held(version)
    answers = _answers(conversation, [one.id for one in held if one.message.get("role") == "assistant"])
    found: list[Exchange] = []
    start = 0
    for index in range(1, len(held) + 1):
        if index == len(held) or msg.kind(held[index].message) == msg.USER:
            asked = msg.kind(held[start].message) == msg.USER
            rest = held[start + asked : index]
            side = _side(
                held[start].id if asked else None,
                [one.message for one in rest],
                [answers[one.id] for one in rest if one.id in answers],
            )
            found.append(Exchange(held[start].message if asked else None, side))
            start = index
    return found


def _answers(conversation: Conversation, ids: list[int]) -> dict[int, ev.Answer]:
    with conversation.store.reading() as reader:
        lineage = views.Lineage.read(reader, conversation.id)
        recorded = views.events_with(reader, lineage, ids)
    return {
        number: event.answer
        for number, event in zip(ids, recorded, strict=True)
        if isinstance(event, ev.MessageAdded) and event.answer is not None
    }


def _side(number: int | None, messages: list[dict[str, Any]], answers: list[ev.Answer]) -> Side:
    last = answers[-1] if answers else ev.Answer()
    seconds = [answer.seconds for answer in answers if answer.seconds is not None]
    return Side(
        id=number,
        messages=messages,
        text=_said(messages),
        model=last.model,
        finish_reason=last.finish_reason,
        prompt_tokens=_tokens(answers, "prompt_tokens"),
        completion_tokens=_tokens(answers, "completion_tokens"),
        seconds=round(sum(seconds), 6) if seconds else None,
        stopped=any(answer.stopped for answer in answers),
    )


def _tokens(answers: Iterable[ev.Answer], name: str) -> int | None:
    counts = [count for answer in answers if is_int(count := (answer.usage or {}).get(name))]
    return sum(counts) if counts else None


def diff(
    engine: Engine,
    a: str | Conversation,
    b: str | Conversation,
    versions: tuple[int | None, int | None] = (None, None),
) -> Diff:
    """What `Engine.diff` does."""
    pair = [engine.open(one) if isinstance(one, str) else one for one in (a, b)]
    left, right = (rounds(one, at) for one, at in zip(pair, versions, strict=True))
    rows = compare(left, right)
    if (left or right) and not any(row.a and row.b and row.question is not None for row in rows):
        raise Refused(
            "{a} and {b} have no question in common: there is nothing to compare",
            a=pair[0].name or pair[0].id,
            b=pair[1].name or pair[1].id,
        )
    counts = {status: sum(row.status == status for row in rows) for status in _STATUSES}
    branches = [
        Branch(
            conversation=one.id,
            name=one.name,
            version=one.version if at is None else at,
            totals=totals(found),
        )
        for one, at, found in zip(pair, versions, (left, right), strict=True)
    ]
    return Diff(a=branches[0], b=branches[1], rows=rows, **counts)


_STATUSES = ("same", "changed", "only_a", "only_b")
