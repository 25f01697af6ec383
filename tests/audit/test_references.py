"""The content of events: what cannot be decoded, or refers to nothing, is named; so are drafts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from openai2 import Conversation, Engine, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import request_events
from openai2.history import drafts
from openai2.store import Transaction, codec
from tests.support.problems import found_problems, places
from tests.support.stores import asked, plain


def test_invalid_message_is_named(engine: Engine) -> None:
    conversation = engine.create("a")
    forged = ev.MessageAdded(message=msgspec.Raw(b"5"))
    engine.store.transact(lambda tx: tx.append(conversation.id, 1, [forged]))
    assert [(p.version, "cannot be read" in p.what) for p in found_problems(engine)] == [(2, True)]


def test_interleaved_streams_are_folded_separately(engine: Engine, path: Path) -> None:
    many = [engine.create(f"c{number}") for number in range(20)]
    forks: list[Conversation] = []
    for step in range(8):
        for number, conversation in enumerate(many):
            conversation.add([user_msg(f"{step} {number}"), assistant_msg("yes")])
            if step == 4:
                forks.append(conversation.fork(f"f{number}", at=conversation.version - 1))
            if step == 6:
                conversation.restore(4)
                forks[number].add([user_msg("on")])
    engine.conversations()
    assert engine.verify().ok
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE conversations SET messages = 9 WHERE name IN ('c3', 'f5')")
        assert places(found_problems(engine)) == {(many[3].id, None), (forks[5].id, None)}
        sql.execute(
            "UPDATE events SET data = replace(data, '7 3', '7 4') WHERE conversation = ?", (many[3].id,)
        )
        # No other problem of a changed stream, or of its forks, is reported.
        changed = many[3].version - 1
        assert places(found_problems(engine)) == {(many[3].id, changed), (forks[5].id, None)}


@pytest.mark.parametrize(
    "event",
    [
        ev.Pinned(messages=[77]),
        ev.Pinned(messages=[1]),
        ev.Unpinned(messages=[2]),
        ev.RolledBack(spans=[(2, 77)], messages=1),
        ev.RolledBack(spans=[(2, 3)], messages=1),
        ev.RolledBack(spans=[(3, 2)], messages=1),
        ev.Truncated(spans=[(9, 9)], messages=1, limit=1),
        ev.Restored(version=4),
        ev.Restored(version=0),
        ev.Restored(version=2, cause="undo", redo=9),
        ev.RequestStarted(view=9),
        ev.RequestStarted(view=3, question=[1]),
        ev.RequestStarted(view=3, without=[(8, 8)]),
        ev.RequestStopped(request=2),
        ev.RequestFailed(request=5, error="E"),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), request=3),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), question=[1]),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), question=[2]),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), kinds="u"),
        ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), remarks=[2]),
        ev.Redacted(version=2, digest="00" * 32, left=msgspec.Raw(b"{}")),
        ev.Redacted(version=9, digest="00" * 32, left=msgspec.Raw(b"{}")),
        ev.Created(),
    ],
    ids=lambda event: event.type,
)
def test_reference_to_nothing_is_named(engine: Engine, event: ev.Event) -> None:
    """The chain is sound: another program may have written such an event."""
    conversation = engine.create()
    conversation.add([user_msg("1"), user_msg("2")])

    def write(tx: Transaction) -> None:
        tx.enlist = lambda *args, **more: None  # type: ignore[method-assign]
        try:
            tx.append(conversation.id, 3, [event])
        finally:
            del tx.enlist

    engine.store.transact(write)
    assert places(engine.verify().problems) == {(conversation.id, 4)}


def test_question_already_in_the_view_is_named(engine: Engine) -> None:
    def added(text: str, **more: Any) -> ev.Event:
        return ev.MessageAdded(message=msgspec.Raw(msg.encode(user_msg(text), "it")), **more)

    def write(*events: ev.Event) -> None:
        conversation.commit(lambda state: list(events))

    conversation = engine.create()
    write(ev.RequestStarted(view=1), added("question", request=2))
    write(added("before its answer"))
    write(added("answer", request=2, question=[3], answer=ev.Answer()))
    write(ev.RolledBack(spans=[(5, 5)], messages=1))
    assert conversation.view().ids == [4, 3] and engine.verify().ok
    write(added("again", question=[4]))
    assert places(engine.verify().problems) == {(conversation.id, 7)}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"after": 2}, None),
        ({"joined": False}, None),
        ({"after": 99}, "message 99 is not in the view"),
        ({"after": 3}, "message 3 is not in the view"),
        ({"after": 2, "joined": False}, "names what joined"),
        ({"question": [4], "joined": False}, "names what joined"),
        ({"answer": None, "joined": False}, "names what joined"),
    ],
)
def test_place_of_an_answer_is_checked(engine: Engine, fields: dict[str, Any], word: str | None) -> None:
    def write(*events: ev.Event) -> None:
        version = conversation.version
        engine.store.transact(lambda tx: tx.append(conversation.id, version, events))

    conversation = engine.create()
    conversation.add([user_msg("1")])
    raw = msgspec.Raw(msg.encode(user_msg("2"), "it"))
    write(ev.RequestStarted(view=2), ev.MessageAdded(message=raw, request=3))
    added = ev.MessageAdded(message=raw, request=3, answer=ev.Answer())
    write(msgspec.structs.replace(added, **fields))
    problems = engine.verify().problems
    assert [problem.version for problem in problems] == [5] * bool(word)
    assert all(str(word) in problem.what for problem in problems)


def test_undecodable_event_is_named(engine: Engine, path: Path) -> None:
    a = engine.create("a")
    time = "2026-11-22T10:05:00.000000Z"
    with plain(path) as sql:
        for version, (tag, data) in enumerate([("happened", "{}"), ("archived", '{"no":1}')], 2):
            head = sql.execute("SELECT hash FROM events ORDER BY position DESC LIMIT 1").fetchone()[0]
            link = codec.link(head, codec.digest(data.encode()), a.id, version, version, tag, time)
            sql.execute(
                "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (version, a.id, version, version, tag, data, time, link),
            )
            assert any(p.version == 2 and "cannot be read" in p.what for p in engine.verify().problems)


_PARTIAL = '{"role":"assistant","content":"half"}'


def _open_request(conversation: Conversation, text: str) -> int:
    """A request that stays open; its id."""
    begun: list[request_events.OpenRequest] = []

    def begin(state: request_events.StreamState) -> list[ev.Event]:
        question = [msg.encode(user_msg(text), "the prompt")]
        events, one = request_events.begin(request_events.RequestSpec(question=question, model="m"), state)
        begun.append(one)
        return events

    conversation.commit(begin)
    return begun[0].request


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("", None),
        (f"partial = '{_PARTIAL}', lease = 0.0", None),
        ("conversation = 'nobody'", "a conversation that does not exist"),
        ("request = request + 1", "which is not on record"),
        ("request = 1", "which is not on record"),
        ("request = :ended", "which has ended"),
        ("request = :answered", "which has ended"),
        ("request = :inherited", "which is not on record"),
        ("request = 'x'", "request: text ≠ integer"),
        ("writer = x'00'", "writer: blob ≠ text"),
        ("lease = 'soon'", "lease: text ≠ real"),
        ("lease = -1", "not a time"),
        ("lease = 9e999", "not a time"),
        ("partial = x'00'", "partial: blob ≠ text"),
        ("partial = 'half a'", "is not a message"),
        ("partial = '[]'", "is not a message"),
        ("partial = '{}'", "is not a message"),
        ('partial = \'{"role":7,"content":"x"}\'', "is not a message"),
    ],
)
def test_draft_must_belong_to_an_open_request(
    engine: Engine, path: Path, change: str, word: str | None
) -> None:
    parent = engine.create("parent")
    asked(parent, "answered", "yes")
    inherited = _open_request(parent, "inherited")
    fork = parent.fork("fork")
    asked(fork, "failed", None)
    with engine.store.reading() as reader:
        failed = [one for one in reader.events(fork.id) if one.type == "request_started"][-1].version
    asked(fork, "answered", "yes")
    request = _open_request(fork, "open")
    engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(fork.id, request)))
    base = request - fork.version + 1
    values = {"ended": base + failed, "answered": request - 3, "inherited": inherited}
    with plain(path) as sql:
        if change:
            sql.execute(f"UPDATE drafts SET {change}", values)
    report = engine.verify()
    if word is None:
        assert report.ok, report.problems
    else:
        (problem,) = report.problems
        assert word in problem.what and problem.what == problem.template.format(**problem.facts)
        assert problem.conversation == ("nobody" if "nobody" in change else fork.id)


def test_drafts_of_a_changed_stream_are_not_judged(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("1")])
    request = _open_request(conversation, "open")
    engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(conversation.id, request + 7)))
    assert ["not on record" in problem.what for problem in found_problems(engine)] == [True]
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, '1', '3') WHERE version = 2")
    assert places(found_problems(engine)) == {(conversation.id, 2)}


def test_draft_in_a_deleted_conversation_has_ended(engine: Engine) -> None:
    conversation = engine.create("a")
    request = _open_request(conversation, "open")
    engine.delete("a")
    assert engine.verify().ok
    engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(conversation.id, request)))
    assert ["has ended" in problem.what for problem in engine.verify().problems] == [True]
