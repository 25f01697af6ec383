"""Copies of a removed text: reported in other events and in answers under way, removed from drafts."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai2 import Conversation, Engine, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import request_events
from openai2.history import drafts
from openai2.redaction import copies
from tests.support.stores import SECRET, asked, files_with, plain


def test_copy_of_the_text_is_reported(engine: Engine, path: Path) -> None:
    a, b = engine.create("a"), engine.create("b")
    a.add([user_msg(SECRET)])
    b.add([user_msg(f"he said {SECRET}!")])
    report = engine.redact("a", 2)
    assert report.also_in == [(b.id, 2)]
    assert files_with(path), "the copy is not removed"


def test_copies_of_keys_numbers_and_addresses_are_reported(engine: Engine, path: Path) -> None:
    key, phone, mail = "sk-proj-a81bc92x", "13800138000", "ann@example.com"
    a = engine.create(f"about {phone}")
    asked(a, f"my key is {key}, my number {phone}，还有{mail}。 Thanks for everything!", f"I keep `{key}`.")
    b = engine.create("b")
    b.add([user_msg(f"call={phone};"), user_msg("my key is mine, thanks for everything"), user_msg("还有")])
    report = engine.redact(a.id, 3)
    assert report.also_in == [(a.id, 1), (a.id, 4), (b.id, 2)]
    for place in report.also_in:
        engine.redact(*place)
    assert not any(files_with(path, secret) for secret in (key, phone, mail))
    assert engine.verify().ok


def test_copy_of_a_part_of_a_message_is_reported(engine: Engine, path: Path) -> None:
    """A content part, arguments of a call, a text with quotes and line ends: however JSON escapes it."""
    a = engine.create("a")
    text = 'one "two"\nthree 四'
    call = {"id": "call_0001", "type": "function", "function": {"name": "get_weather", "arguments": text}}
    a.add(
        [
            {"role": "user", "content": [{"type": "text", "text": text}, {"type": "text", "text": "yes"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0001", "content": f"> {text}"},
            {"role": "assistant", "content": None, "tool_calls": [{**call, "id": "call_0002"}]},
            {"role": "user", "content": [{"type": "text", "text": "no"}]},
        ]
    )
    assert engine.redact("a", 2).also_in == [(a.id, 3), (a.id, 4), (a.id, 5)]
    assert engine.redact("a", 3).also_in == [(a.id, 4), (a.id, 5)]
    assert engine.redact("a", 6).also_in == []


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("short", []),
        ("token=abcd1234, at 2026-11-22 10:05", ["token=abcd1234, at 2026-11-22 10:05", "abcd1234"]),
        ("on 2026-11-22 we met", ["on 2026-11-22 we met"]),
        ("see https://a.example/b-c_d.", ["see https://a.example/b-c_d."]),
        ("call 13800138000!", ["call 13800138000!", "13800138000"]),
        ("ask ann@example.com", ["ask ann@example.com", "ann@example.com"]),
    ],
)
def test_search_patterns_are_texts_and_secret_words(text: str, patterns: list[str]) -> None:
    assert copies.search_patterns([text]) == patterns


def test_search_patterns_are_limited() -> None:
    patterns = copies.search_patterns([" ".join(f"word-number-{number}" for number in range(100))])
    assert len(patterns) == copies.MAX_PATTERNS


def _open_request(
    conversation: Conversation, text: str, partial: str, alive: bool
) -> request_events.OpenRequest:
    """Append a request with a draft of its answer, whose lease is valid if *alive*."""
    begun: list[request_events.OpenRequest] = []

    def begin(state: request_events.StreamState) -> list[ev.Event]:
        events, one = request_events.begin(
            request_events.RequestSpec(question=[msg.encode(user_msg(text), "it")], model="m"), state
        )
        begun.append(one)
        return events

    conversation.commit(begin)
    draft = drafts.fresh(conversation.id, begun[0].request)
    draft = draft._replace(partial=msg.encode(assistant_msg(partial), "it"))
    if not alive:
        draft = draft._replace(lease=0.0)
    conversation.store.transact(lambda tx: tx.put_draft(draft))
    return begun[0]


def test_answer_to_a_redacted_question_joins_the_view(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    begun = _open_request(a, f"my password is {SECRET}", "", alive=True)
    other = engine.create("other")
    _open_request(other, "hello", "no secret here", alive=True)
    report = engine.redact("a", begun.question[0])
    assert report.under_way == [(a.id, begun.request)]
    assert report.clean and not files_with(path)
    message = msg.encode(assistant_msg(f"It is {SECRET}?"), "it")
    a.store.transact(
        a.end_job(
            begun.request, lambda state: request_events.answered(begun, state, message, ev.Answer(model="m"))
        )
    )
    assert a.messages() == [user_msg("[redacted]"), assistant_msg(f"It is {SECRET}?")]
    report = engine.redact("a", a.view_messages()[-1].id)
    assert not report.under_way and not report.also_in and not files_with(path)
    assert engine.open("a").messages() == [user_msg("[redacted]"), assistant_msg("[redacted]")]
    assert engine.verify().ok


def test_answers_under_way_that_may_quote_it_are_reported(engine: Engine) -> None:
    a, b = engine.create("a"), engine.create("b")
    a.add([user_msg(SECRET)])
    fork = a.fork()
    quoting = _open_request(b, "hello", f"as in {SECRET}", alive=True)
    sharing = _open_request(fork, "hello", "", alive=True)
    report = engine.redact("a", 2)
    assert sorted(report.under_way) == sorted([(b.id, quoting.request), (fork.id, sharing.request)])


@pytest.mark.parametrize("keep", [True, False])
def test_interrupted_answer_loses_the_text(engine: Engine, path: Path, keep: bool) -> None:
    a = engine.create("a")
    begun = _open_request(a, f'my "password" is {SECRET}', f'You say "{SECRET}"!\nBut', alive=False)
    report = engine.redact("a", begun.question[0])
    assert report.under_way == [] and report.also_in == [] and not files_with(path)
    (draft,) = a.interrupted()
    (a.keep if keep else a.drop)(draft)
    left = assistant_msg('You say "[redacted]"!\nBut')
    assert a.messages() == ([user_msg("[redacted]"), left] if keep else [])
    assert engine.verify().ok and not files_with(path)


@pytest.mark.parametrize("forged", [f'{{"role":"assistant","content":"{SECRET}', f'["{SECRET}'])
def test_damaged_draft_does_not_prevent_redaction(engine: Engine, path: Path, forged: str) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(SECRET)])
    with plain(path) as sql:
        sql.execute("INSERT INTO drafts VALUES (?, 9, x'00', 'soon', ?)", (conversation.id, forged))
    assert len(conversation.interrupted()) == 1
    assert engine.redact("a", 2).clean
    assert not files_with(path)
