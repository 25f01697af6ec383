"""What was redacted is gone from every file, the chain holds, and nobody keeps serving it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai2 import BadInput, Conversation, Engine, Refused, UnknownConversation, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import request_events
from openai2.history import drafts
from openai2.redaction import copies
from openai2.redaction.redact import left_of
from openai2.store import Draft
from openai2.store.erase import empty
from tests.support.stores import asked, busy, long, plain

SECRET = "hunter2-correct-horse"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with Engine(path) as engine:
        yield engine


def _traces(path: Path, secret: str = SECRET) -> list[str]:
    files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    return [file.name for file in files if secret.encode() in file.read_bytes()]


def _id_of(engine: Engine, name: str, text: str) -> int:
    return next(held.id for held in engine.open(name).view_messages() if text in str(held.message["content"]))


def test_a_secret_is_gone_for_good(engine: Engine, path: Path) -> None:
    busy(engine)
    conversation = engine.create("a")
    for number in range(60):
        conversation.add(
            [user_msg(f"{number} my password is {SECRET} {number}" * (number == 30) or "x" * 900)]
        )
    engine.search("password")
    before = conversation.messages()
    assert _traces(path)
    head = conversation.head
    report = engine.redact("a", _id_of(engine, "a", SECRET), reason="it slipped")
    assert report.clean and report.versions == [32] and not report.also_in
    assert not _traces(path)
    assert engine.verify(heads=[head]).ok
    after = conversation.messages()
    assert after[30] == {"role": "user", "content": "[redacted]"}
    assert after[:30] + after[31:] == before[:30] + before[31:]
    assert not list(engine.search("password"))
    engine.rebuild()
    assert engine.verify().ok
    with Engine(path) as again:
        assert again.open("a").messages() == after
        assert again.open("a").at(40) == after[:39]


def test_a_redacted_message_is_redacted_in_forks_and_other_handles(engine: Engine, path: Path) -> None:
    parent = engine.create("parent")
    parent.add([user_msg(SECRET), assistant_msg("fine")])
    fork = parent.fork("fork")
    fork.add([user_msg("on")])
    early = parent.fork("early", at=1)
    other = Engine(path).open("fork")
    for handle in (parent, fork, other):
        assert SECRET in str(handle.messages())
    report = engine.redact("fork", 2)
    assert report.conversation == parent.id
    assert report.shared_by == [fork.id] and early.id not in report.shared_by
    for handle in (parent, fork, other):
        assert SECRET not in str(handle.messages())
        assert SECRET not in str(handle.view_messages())
    assert engine.verify().ok
    other.store.close()


def test_the_same_text_elsewhere_is_named(engine: Engine, path: Path) -> None:
    a, b = engine.create("a"), engine.create("b")
    a.add([user_msg(SECRET)])
    b.add([user_msg(f"he said {SECRET}!")])
    report = engine.redact("a", 2)
    assert report.also_in == [(b.id, 2)]
    assert _traces(path), "it does not pretend"


def test_what_quotes_a_telling_word_of_it_is_named(engine: Engine, path: Path) -> None:
    key, phone, mail = "sk-proj-a81bc92x", "13800138000", "ann@example.com"
    a = engine.create(f"about {phone}")
    asked(a, f"my key is {key}, my number {phone}，还有{mail}。 Thanks for everything!", f"I keep `{key}`.")
    b = engine.create("b")
    b.add([user_msg(f"call={phone};"), user_msg("my key is mine, thanks for everything"), user_msg("还有")])
    report = engine.redact(a.id, 3)
    assert report.also_in == [(a.id, 1), (a.id, 4), (b.id, 2)]
    for place in report.also_in:
        engine.redact(*place)
    assert not any(_traces(path, secret) for secret in (key, phone, mail))
    assert engine.verify().ok


def test_what_is_part_of_a_message_is_found_in_others(engine: Engine, path: Path) -> None:
    """A part, a call's arguments, a text with quotes and line ends: whatever way it is written in JSON."""
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
    ("text", "wanted"),
    [
        ("short", []),
        ("token=abcd1234, at 2026-11-22 10:05", ["token=abcd1234, at 2026-11-22 10:05", "abcd1234"]),
        ("on 2026-11-22 we met", ["on 2026-11-22 we met"]),
        ("see https://a.example/b-c_d.", ["see https://a.example/b-c_d."]),
        (
            "go to <example.org/very/long/path>",
            ["go to <example.org/very/long/path>", "example.org/very/long/path"],
        ),
    ],
)
def test_what_is_telling(text: str, wanted: list[str]) -> None:
    assert copies.telling([text]) == wanted


def test_no_more_is_looked_for_than_said() -> None:
    wanted = copies.telling([" ".join(f"word-number-{number}" for number in range(100))])
    assert len(wanted) == copies.MOST


# -- answers under way


def _asking(conversation: Conversation, text: str, partial: str, alive: bool) -> request_events.OpenRequest:
    """A request on record, with what has come of its answer; whether its writer is there still."""
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


def test_a_question_under_way_is_redacted_and_its_answer_joins_the_view(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    begun = _asking(a, f"my password is {SECRET}", "", alive=True)
    other = engine.create("other")
    _asking(other, "hello", "no secret here", alive=True)
    report = engine.redact("a", begun.question[0])
    assert report.under_way == [(a.id, begun.request)]
    assert report.clean and not _traces(path)
    message = msg.encode(assistant_msg(f"It is {SECRET}?"), "it")
    a.end(begun.request, lambda state: request_events.answered(begun, state, message, ev.Answer(model="m")))
    assert a.messages() == [user_msg("[redacted]"), assistant_msg(f"It is {SECRET}?")]
    report = engine.redact("a", a.view_messages()[-1].id)
    assert not report.under_way and not report.also_in and not _traces(path)
    assert engine.open("a").messages() == [user_msg("[redacted]"), assistant_msg("[redacted]")]
    assert engine.verify().ok


def test_an_answer_under_way_that_quotes_it_is_named_wherever_it_is(engine: Engine) -> None:
    a, b = engine.create("a"), engine.create("b")
    a.add([user_msg(SECRET)])
    fork = a.fork()
    quoting = _asking(b, "hello", f"as in {SECRET}", alive=True)
    heard = _asking(fork, "hello", "", alive=True)
    report = engine.redact("a", 2)
    assert sorted(report.under_way) == sorted([(b.id, quoting.request), (fork.id, heard.request)])


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_left_of_a_cut_answer_loses_the_text(engine: Engine, path: Path, keep: bool) -> None:
    a = engine.create("a")
    begun = _asking(a, f'my "password" is {SECRET}', f'You say "{SECRET}"!\nBut', alive=False)
    report = engine.redact("a", begun.question[0])
    assert report.under_way == [] and report.also_in == [] and not _traces(path)
    (draft,) = a.interrupted()
    (a.keep if keep else a.drop)(draft)
    left = assistant_msg('You say "[redacted]"!\nBut')
    assert a.messages() == ([user_msg("[redacted]"), left] if keep else [])
    assert engine.verify().ok and not _traces(path)


@pytest.mark.parametrize("forged", [f'{{"role":"assistant","content":"{SECRET}', f'["{SECRET}'])
def test_a_forged_draft_keeps_nobody_from_redacting(engine: Engine, path: Path, forged: str) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(SECRET)])
    with plain(path) as sql:
        sql.execute("INSERT INTO drafts VALUES (?, 9, x'00', 'soon', ?)", (conversation.id, forged))
    assert len(conversation.interrupted()) == 1
    assert engine.redact("a", 2).clean
    assert not _traces(path)


def test_an_answer_keeps_its_facts_and_loses_its_words(engine: Engine) -> None:
    a = engine.create("a")
    asked(a, "question", "answer " + SECRET)
    engine.redact("a", _id_of(engine, "a", SECRET))
    event = list(a.events())[3].event
    assert isinstance(event, ev.MessageAdded) and event.answer
    assert event.answer.model == "gpt-test" and event.answer.finish_reason == "stop"
    assert a.messages()[-1] == assistant_msg("[redacted]")
    assert a.undo() == 1 and a.redo() == 1
    assert engine.verify().ok


def test_a_failed_request_a_remark_and_a_role_can_be_redacted(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    asked(a, "question", None)
    a.set_role("Ann", SECRET)
    a.commit(lambda state: [ev.RemarkAdded(speaker="Ann", audiences=[], remark=SECRET)])
    for number in (4, 5, 6):
        engine.redact("a", number)
    assert not _traces(path) and not _traces(path, "half an")
    assert a.roles() == {"Ann": "[redacted]"}
    assert a.remarks()[0].remark == "[redacted]"
    assert engine.verify().ok


def test_names_can_be_redacted(engine: Engine, path: Path) -> None:
    a = engine.create(SECRET)
    a.rename("plain")
    engine.redact("plain", 1)
    assert not _traces(path)
    assert a.name == "plain"
    engine.redact("plain", 2)
    assert a.name is None
    assert engine.verify().ok
    engine.rebuild()
    assert engine.verify().ok


@pytest.mark.parametrize("number", [0, -1, 3, 99])
def test_what_is_not_there_or_holds_nothing_is_refused(engine: Engine, number: int) -> None:
    a = engine.create("a")
    a.add([user_msg("x")])
    a.pin(0)
    with pytest.raises(Refused):
        engine.redact("a", number)
    assert a.version == 3


def test_a_reason_that_quotes_what_goes_is_refused(engine: Engine, path: Path) -> None:
    engine.create("a").add([user_msg(f"it is {SECRET}, say no more")])
    with pytest.raises(Refused, match="the reason quotes"):
        engine.redact("a", 2, reason=f"typed {SECRET} by mistake")
    assert engine.open("a").version == 2
    engine.redact("a", 2, reason="typed a password by mistake")
    assert not _traces(path)


def test_so_is_one_that_quotes_what_a_whole_conversation_says(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("x"), user_msg(f"it is {SECRET}, say no more")])
    with pytest.raises(Refused, match="the reason quotes"):
        engine.delete("a", reason=f"{SECRET} was typed")
    assert conversation.version == 3 and conversation.messages()[0] == user_msg("x")
    engine.delete("a", reason="no more needed")
    assert not _traces(path)


def test_redacting_twice_is_refused(engine: Engine) -> None:
    engine.create("a").add([user_msg("x")])
    engine.redact("a", 2)
    with pytest.raises(Refused, match="no content"):
        engine.redact("a", 2)
    with pytest.raises(UnknownConversation):
        engine.redact("nobody", 2)


def test_a_reader_elsewhere_is_told_of(engine: Engine, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from openai2.store import sqlite

    monkeypatch.setattr(sqlite, "_CHECKPOINT_PATIENCE", 50)
    engine.create("a").add([user_msg(SECRET)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM events").fetchone()
    report = engine.redact("a", 2)
    assert not report.clean and _traces(path)
    other.execute("COMMIT")
    other.close()
    assert engine.scrub() and not _traces(path)


# -- whole conversations


def test_a_deleted_conversation_is_an_empty_shell(engine: Engine, path: Path) -> None:
    a = engine.create("name-" + SECRET)
    a.add([user_msg(f"{SECRET} {number}") for number in range(50)])
    a.set_role("Ann", SECRET)
    asked(a, SECRET, None)
    engine.store.transact(lambda tx: tx.put_draft(Draft(a.id, 9, "me", 0.0, SECRET.encode())))
    head = a.head
    other = Engine(path).open(a.id)
    other.messages()
    report = engine.delete(a.id, reason="asked to")
    assert report.clean and not _traces(path)
    assert engine.verify(heads=[head]).ok
    assert not engine.conversations(archived=None)
    for handle in (a, other):
        with pytest.raises(UnknownConversation, match="deleted"):
            handle.messages()
        with pytest.raises(UnknownConversation, match="deleted"):
            handle.add([user_msg("more")])
    with pytest.raises(UnknownConversation):
        engine.open(a.id)
    engine.rebuild()
    assert not engine.conversations(archived=None) and engine.verify().ok
    other.store.close()


def test_a_long_conversation_is_deleted_in_time_and_under_guard(engine: Engine, path: Path) -> None:
    long(engine, size=6000)
    schema = engine.store.transact(lambda tx: tx.sql.execute("PRAGMA schema_version").fetchone())
    began = time.process_time()
    assert len(engine.delete("long").versions) == 6001
    assert time.process_time() - began < 8, "what grows with the square of the length takes longer"
    assert engine.verify().ok
    # VACUUM counts as one change of the schema; a guard taken off and put back would be two more.
    assert engine.store.transact(lambda tx: tx.sql.execute("PRAGMA schema_version").fetchone()) == (
        schema[0] + 1,
    )
    with plain(path) as sql, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        sql.execute("UPDATE events SET data = '' WHERE version = 6001 + 5")


def test_without_its_index_the_guard_still_judges_and_a_rebuild_makes_it_anew(
    engine: Engine, path: Path
) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(SECRET), user_msg("stays")])
    with plain(path) as sql:
        sql.execute("DROP INDEX events_redacted")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            sql.execute("UPDATE events SET data = '' WHERE version = 3")
    engine.redact("a", 2)
    assert not _traces(path)
    assert [problem.what for problem in engine.verify().problems] == [
        "the index events_redacted, which guards the log, is missing"
    ]
    engine.rebuild()
    assert engine.verify().ok
    assert conversation.messages() == [user_msg("[redacted]"), user_msg("stays")]


def test_many_events_are_emptied_only_where_that_is_on_record(engine: Engine, path: Path) -> None:
    conversation = long(engine, size=200)
    before = conversation.messages()
    with pytest.raises(Refused, match="append-only"):
        engine.store.transact(lambda tx: empty(tx, [(conversation.id, number) for number in range(2, 90)]))
    assert engine.open("long").messages() == before
    assert engine.verify().ok


def test_a_conversation_that_others_forked_from_is_not_deleted(engine: Engine) -> None:
    a = engine.create("a")
    a.add([user_msg("x")])
    a.fork("b")
    a.fork()
    before = engine.heads()
    with pytest.raises(Refused, match="b, "):
        engine.delete("a")
    assert engine.heads() == before
    for name in [line.id for line in engine.conversations() if line.parent]:
        engine.delete(name)
    engine.delete("a")
    assert engine.verify().ok and not engine.conversations()


def test_every_busy_conversation_can_be_deleted(engine: Engine) -> None:
    conversations = busy(engine)
    for name in ("group", "put away", "deeper", "side", "main"):
        engine.delete(conversations[name].id)
        assert engine.verify().ok
        engine.rebuild()
        assert engine.verify().ok


# -- what is left


def test_what_is_left_keeps_its_kind() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": SECRET}}]
    for message in (
        user_msg(SECRET),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "assistant", "content": None, "function_call": {"name": SECRET, "arguments": SECRET}},
        {"role": "tool", "tool_call_id": "c1", "content": SECRET},
        {"role": "user", "content": [{"type": "text", "text": SECRET}], "name": SECRET, "x": {"y": SECRET}},
    ):
        event = ev.MessageAdded(message=msgspec.Raw(msg.encode(message, "it")))
        left = left_of(event)
        assert isinstance(left, ev.MessageAdded)
        assert SECRET not in ev.encode(left).decode()
        assert msg.kind_of(left.message) == msg.kind_of(event.message)
        assert msg.decode(bytes(left.message)).get("tool_call_id") == message.get("tool_call_id")


@pytest.mark.parametrize("reason", [5, True, ["why"], b"why", "\ud800"])
def test_a_reason_that_could_not_be_read_again_is_refused(engine: Engine, reason: Any) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(SECRET)])
    with pytest.raises(BadInput, match="a reason"):
        engine.redact("a", 2, reason)
    with pytest.raises(BadInput, match="a reason"):
        engine.delete("a", reason)
    with pytest.raises(BadInput, match="a reason"):
        conversation.fork(reason=reason)
    assert engine.open("a").messages() == [user_msg(SECRET)]
    assert engine.verify().ok
