"""Replays: what is asked again, what is carried over, and that stopping one loses nothing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from openai2 import BadInput, Chat, GroupChat, NameTaken, Refused, UnknownVersion

from openai2 import assistant_msg, system_msg, user_msg  # isort: skip
from openai2.core import events as ev
from openai2.offline import OfflineServer, answer
from openai2.replay.run import Progress

KEY = "sk-test"


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineServer]:
    with OfflineServer() as server:
        yield server


class Api:
    """An API that answers as `answer` says; *fails* tells which requests, by number, it refuses."""

    def __init__(self, said: Callable[[dict[str, Any]], str | dict[str, Any]] | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.fails: Callable[[int], bool] = lambda number: False
        self._said: Callable[[dict[str, Any]], str | dict[str, Any]] = said or _by_the_rules
        self.client = httpx2.Client(transport=httpx2.MockTransport(self.respond))

    def respond(self, request: httpx2.Request) -> httpx2.Response:
        body: dict[str, Any] = json.loads(request.content)
        self.bodies.append(body)
        if body["model"] == "no-such-model":
            return httpx2.Response(404, json={"error": {"message": "there is no such model"}})
        if self.fails(len(self.bodies)):
            return httpx2.Response(500, json={"error": {"message": "out of order"}})
        said = self._said(body)
        message = said if isinstance(said, dict) else assistant_msg(said)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        head: dict[str, Any] = {"id": "x", "model": body["model"]}
        if not body.get("stream"):
            whole = {"index": 0, "message": message, "finish_reason": finish}
            return httpx2.Response(200, json={**head, "choices": [whole]})
        first = {"index": 0, "delta": message, "finish_reason": None}
        last: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": finish}
        text = "".join(f"data: {json.dumps({**head, 'choices': [part]})}\n\n" for part in (first, last))
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, text=text + "data: [DONE]\n\n", headers=headers)

    def chat(self, db: Any = None, conversation: str | None = None, **options: Any) -> Chat:
        return Chat(KEY, db=db, conversation=conversation, http_client=self.client, max_retries=0, **options)

    @property
    def asked(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies]


def _by_the_rules(body: dict[str, Any]) -> str:
    return answer(body["messages"])


def types(chat: Chat) -> list[str]:
    return [record.type for record in chat.events()]


def sound(chat: Chat) -> None:
    report = chat.engine.verify()
    assert report.ok, report.problems


# -- what happens again


def test_every_question_is_asked_again_with_the_new_answers_before_it() -> None:
    api = Api(lambda body: f"{body['model']} {len(body['messages'])}")
    with api.chat(model="old", temperature=0.5) as chat:
        chat.request("one")
        chat.request("two", seed=7)
        with chat.replay("new", temperature=1.0, name="again") as twin:
            assert twin.fetch_messages() == [
                *(user_msg("one"), assistant_msg("new 1"), user_msg("two"), assistant_msg("new 3"))
            ]
            assert api.bodies[-1] == {
                "messages": [user_msg("one"), assistant_msg("new 1"), user_msg("two")],
                "temperature": 1.0,
                "seed": 7,
                "model": "new",
            }
            assert twin.model == "new" and twin.conversation.name == "again"
            first = next(twin.events()).event
            assert isinstance(first, ev.Forked) and first.reason == "replay" and first.replay is not None
            assert (first.replay.source, first.replay.model) == (chat.conversation.id, "new")
            assert [r.event.replays for r in twin.events() if r.type == "request_started"] == [4, 7]
            twin.request("three")
            assert api.bodies[-1]["temperature"] == 0.5  # the dialogue's own again
        sound(chat)
        told = chat.engine.diff(chat.conversation, "again")
        assert (told.changed, told.only_b, told.same) == (2, 1, 0)


def test_what_else_happened_happens_again(server: OfflineServer) -> None:
    with Chat(KEY, base_url=server.base_url, MsgMaxCount=6) as chat:
        chat.add_dialogs(system_msg("be short"))
        chat.pin_messages(0)
        for _ in range(4):
            chat.request("自然数1的后面是几?")
        chat.pin_messages(-1, -2)
        list(chat.stream_request("再往后是几?"))
        chat.rollback()
        chat.undo()
        chat.retry()
        chat.unpin_messages(-3)
        chat.restore(8)
        chat.add_dialogs(user_msg("made up"), assistant_msg("by hand"))
        with chat.replay() as twin:
            assert twin.fetch_messages() == chat.fetch_messages()
            assert [one.pinned for one in twin.conversation.view_messages()] == [
                one.pinned for one in chat.conversation.view_messages()
            ]
            assert types(twin)[1:] == types(chat)[1:]
        sound(chat)


def test_the_system_message_is_replaced_and_keeps_its_pin() -> None:
    api = Api()
    with api.chat() as chat:
        chat.add_dialogs(user_msg("hello"), {"role": "developer", "content": "old", "name": "boss"})
        chat.pin_messages(1)
        chat.request("one")
        with chat.replay(system="new") as twin:
            assert twin.fetch_messages()[1] == {"role": "developer", "content": "new", "name": "boss"}
            assert [one.pinned for one in twin.conversation.view_messages()][:2] == [False, True]
        chat.request("two")
        asked = len(api.bodies)
        with chat.replay(system="new", at=chat.version - 2) as twin:
            assert len(api.bodies) == asked + 1 and api.asked[-1] == "two"
            assert [one.message["content"] for one in twin.conversation.view_messages()][:3] == [
                "hello",
                "new",
                "one",
            ]
            assert [one.pinned for one in twin.conversation.view_messages()][:2] == [False, True]
        sound(chat)


def test_a_system_message_where_there_was_none_comes_first_and_is_pinned() -> None:
    with Api().chat() as chat:
        chat.request("one")
        chat.request("two")
        for at in (None, 5):
            with chat.replay(system="new", at=at) as twin:
                held = twin.conversation.view_messages()
                assert held[0].message == system_msg("new") and held[0].pinned and len(held) == 5
        sound(chat)


def test_from_a_version_on_what_came_before_is_shared() -> None:
    api = Api(lambda body: f"{len(api.bodies)}")
    with api.chat() as chat:
        for text in ("one", "two", "three"):
            chat.request(text)
        with chat.replay(at=6) as twin:  # the second question
            assert api.asked[3:] == ["two", "three"]
            assert [m["content"] for m in twin.fetch_messages()] == ["one", "1", "two", "4", "three", "5"]
            assert next(twin.events()).event.version == 4  # type: ignore[attr-defined]
        sound(chat)
        with pytest.raises(UnknownVersion):
            chat.replay(at=100)


def test_a_restore_to_before_the_fork_makes_the_view_anew() -> None:
    api = Api()
    with api.chat() as chat:
        chat.add_dialogs(system_msg("s"))
        chat.pin_messages(0)
        chat.request("one")
        chat.request("two")
        chat.restore(3)
        chat.request("three")
        with chat.replay(at=8) as twin:
            assert twin.fetch_messages() == chat.fetch_messages()
            assert [one.pinned for one in twin.conversation.view_messages()] == [True, False, False]
        sound(chat)


def test_a_fork_is_replayed_with_what_it_inherited() -> None:
    api = Api(lambda body: f"{body['model']}: {body['messages'][-1]['content']}")
    with api.chat() as chat:
        chat.request("one")
        chat.request("two")
        with chat.fork(at=4) as branch:
            branch.request("three")
            with branch.replay("new") as twin:
                assert [m["content"] for m in twin.fetch_messages()] == [
                    *("one", "new: one", "three", "new: three")
                ]
            with branch.replay("new", at=1) as twin:  # its own part only
                assert [m["content"] for m in twin.fetch_messages()] == [
                    *("one", "gpt-4o-mini: one", "three", "new: three")
                ]
            with branch.replay("third").replay("fourth") as twin:
                assert twin.fetch_messages()[-1]["content"] == "fourth: three"
        sound(chat)


def test_failed_requests_are_left_out_and_stopped_ones_asked_again() -> None:
    api = Api(lambda body: "a whole answer")
    with api.chat() as chat:
        api.fails = lambda number: number == 1
        with pytest.raises(openai.InternalServerError):
            chat.request("fails")
        chat.request("works")
        stream = chat.stream_request("stopped")
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert api.asked == ["fails", "works", "stopped"]
        chat.replay("new").close()
        assert api.asked[3:] == ["works", "stopped"]
        api.fails = lambda number: number == 6
        with pytest.raises(openai.InternalServerError):
            chat.request("fails, then works")
        chat.retry()
        asked = len(api.asked)
        chat.replay("third").close()
        assert api.asked[asked:] == ["works", "stopped", "fails, then works"]
        sound(chat)


def test_calls_of_tools_are_carried_over_with_their_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    tools: list[dict[str, Any]] = [{"type": "function", "function": {"name": "add", "parameters": {}}}]

    def said(body: dict[str, Any]) -> Any:
        if body["messages"][-1]["content"] not in ("add", "add, and leave it"):
            return body["model"]
        mine = call | {"id": f"c{len(body['messages'])}"}
        return {"role": "assistant", "content": None, "tool_calls": [mine]}

    api = Api(said)
    with api.chat() as chat:
        assert chat.request("add", tools=tools) == ""
        result = {"role": "tool", "tool_call_id": "c1", "content": "5"}
        chat.request(messages=[result])
        chat.request("add, and leave it")
        with chat.replay("new") as twin:
            assert api.asked[3:] == ["5", "add, and leave it"]  # the second call has no result: it is asked
            question, called, told, last = twin.fetch_messages()[:4]
            assert question == user_msg("add") and called["tool_calls"] == [call] and told == result
            assert last == assistant_msg("new")
        sound(chat)


def test_a_question_whose_content_is_gone_is_not_asked() -> None:
    from openai2.replay.source import Source, SourceEvent

    asked = ev.MessageAdded(message=msgspec.Raw(b'{"role":"user","content":"x"}'), request=2)
    message = msgspec.Raw(b'{"role":"assistant","content":"y"}')
    said = ev.MessageAdded(message=message, request=2, question=[3], answer=ev.Answer())
    stream: list[ev.Event] = [ev.Created(), ev.RequestStarted(view=1), asked, said]
    for emptied, steps in ((False, [4]), (True, [])):
        told = [SourceEvent(n, n, 0, event, emptied and n == 3) for n, event in enumerate(stream, 1)]
        assert list(Source(told, 1).steps) == steps


def test_a_deleted_replay_says_no_more_what_the_system_message_was(tmp_path: Path) -> None:
    from openai2.redaction import redact

    db = tmp_path / "log.db"
    with Api().chat(db) as chat:
        chat.request("one")
        with chat.replay(system="a secret prompt") as twin:
            redact.delete(chat.engine.store, twin.conversation.id)
        sound(chat)
    assert b"a secret prompt" not in db.read_bytes()


def test_group_chats_are_replayed(server: OfflineServer) -> None:
    with GroupChat(KEY, base_url=server.base_url) as group:
        group.roles = {"苏轼": "诗人", "李清照": "词人"}
        group.add_dialog("李清照", ["苏轼"], "你好")
        group.request([("苏轼", ["李清照"])])
        group.add_dialog("李清照", ["苏轼"], "再见")
        with group.replay("new") as twin:
            assert isinstance(twin, GroupChat)
            assert twin.fetch_messages() == group.fetch_messages()
            assert dict(twin.roles) == dict(group.roles)
            assert twin.pending_remarks() == group.pending_remarks()
            assert group.engine.verify().ok


actions = st.lists(
    st.tuples(st.sampled_from("request stream add pin unpin rollback undo redo restore retry".split()),
              st.integers(0, 40)),
    max_size=14,
)  # fmt: skip


@example([("request", 0), ("retry", 0), ("restore", 40)], None, 1, 0)
@example([("request", 0)] * 3 + [("restore", 0), ("restore", 3), ("undo", 0)], None, 8, 0)
@settings(max_examples=40)
@given(actions, st.sampled_from([None, None, 3, 4]), st.integers(1, 20), st.integers(0, 6))
def test_any_history_replayed_with_equal_answers_is_that_history(
    steps: list[tuple[str, int]], limit: int | None, at: int, fails: int
) -> None:
    """Whatever happened, from wherever on, and wherever the server gave up in between."""
    api = Api(lambda body: f"after {body['messages'][-1]['content']}")
    with api.chat(MsgMaxCount=limit) as chat:
        for kind, number in steps:
            _act(chat, kind, number)
        questions = [r for r in chat.events() if r.type == "request_started"]
        for start in (None, max(1, min(at, chat.version))):
            asked = len(api.bodies)
            api.fails = lambda number, asked=asked: number == asked + fails  # type: ignore[misc]
            for _ in range(2):
                try:
                    twin = chat.replay(at=start)
                except (Refused, UnknownVersion):
                    assert start is not None or not questions
                    break
                except openai.InternalServerError:
                    continue
                else:
                    assert twin.fetch_messages() == chat.fetch_messages()
                    assert [one.pinned for one in twin.conversation.view_messages()] == [
                        one.pinned for one in chat.conversation.view_messages()
                    ]
                    twin.close()
                    break
            if start is None:
                assert len(api.bodies) - asked <= len(questions) + 1
        sound(chat)


def _act(chat: Chat, kind: str, number: int) -> None:
    size = len(chat.fetch_messages())
    try:
        if kind == "request":
            chat.request(f"question {number}")
        elif kind == "stream":
            list(chat.stream_request(f"question {number}"))
        elif kind == "add":
            chat.add_dialogs(user_msg(f"made up {number}"), assistant_msg("yes"))
        elif kind in ("pin", "unpin") and size:
            getattr(chat, f"{kind}_messages")(number % size)
        elif kind == "restore" and chat.version:
            chat.restore(1 + number % chat.version)
        elif kind in ("undo", "redo", "rollback"):
            getattr(chat, kind)(1 + number % 3)
        elif kind == "retry":
            chat.retry()
    except (BadInput, Refused):
        pass


# -- stopping and going on


def test_what_was_answered_stays_and_the_same_call_asks_what_is_missing(tmp_path: Path) -> None:
    api = Api()
    with api.chat(tmp_path / "log.db", "source") as chat:
        for text in ("one", "two", "three", "four"):
            chat.request(text)
        api.fails = lambda number: number == 7
        with pytest.raises(openai.InternalServerError):
            chat.replay("new")
        (fork,) = chat.engine.children(chat.conversation.id)
        assert [m["role"] for m in chat.engine.open(fork.id).messages()] == ["user", "assistant"] * 2
        with chat.replay("new") as twin:
            assert twin.conversation.id == fork.id
            assert twin.fetch_messages() == chat.fetch_messages()
        assert api.asked[4:] == ["one", "two", "three", "three", "four"]
        texts = [r.data["message"]["content"] for r in twin.events() if r.type == "message_added"]
        assert texts.count("three") == 1  # it is on record once, and asked again from there
        chat.replay("new").close()
        assert len(api.bodies) == 9  # nothing was missing
        chat.request("five")
        chat.replay("new").close()
        assert api.asked[9:] == ["five", "five"]
        sound(chat)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_nothing_is_made_where_the_first_answer_does_not_come(streamed: bool) -> None:
    api = Api()
    with api.chat(conversation="source") as chat:
        chat.add_dialogs(system_msg("s"))
        list(chat.stream_request("one")) if streamed else chat.request("one")
        with pytest.raises(openai.NotFoundError):
            chat.replay("no-such-model")
        assert [listed.name for listed in chat.engine.conversations()] == ["source"]
        version = chat.version
        chat.replay("a-model").close()
        assert chat.version == version
        sound(chat)


def test_the_replay_of_another_is_not_taken() -> None:
    api = Api()
    with api.chat(conversation="source") as chat:
        chat.request("one")
        wanted: list[tuple[str, dict[str, Any]]] = [
            *(("a", {}), ("b", {}), ("a", {"system": "s"}), ("a", {"seed": 1})),
            *(("a", {"name": "named"}), ("a", {"name": "named"})),
        ]
        twins = [chat.replay(model, **options) for model, options in wanted]
        ids = {twin.conversation.id for twin in twins}
        assert len(ids) == 5
        with pytest.raises(NameTaken):
            chat.replay("b", name="named")
        with pytest.raises(NameTaken):
            chat.replay("b", name="source")
        assert twins[-1].conversation.name == "named"


def test_bad_input() -> None:
    with Api().chat() as chat:
        with pytest.raises(Refused, match="no question"):
            chat.replay()
        chat.add_dialogs(user_msg("made up"), assistant_msg("yes"))
        with pytest.raises(Refused, match="no question"):
            chat.replay()
        chat.request("one")
        with pytest.raises(TypeError, match="no_option"):
            chat.replay(no_option=1)
        with pytest.raises(BadInput, match="empty"):
            chat.replay(system=" ")


def test_a_replay_that_was_stopped_in_mid_answer_asks_that_one_again(tmp_path: Path) -> None:
    async def main() -> None:
        db = tmp_path / "log.db"
        with OfflineServer(delay=0.07) as server, Chat(KEY, base_url=server.base_url, db=db) as chat:
            await chat.async_request("自然数1的后面是几?")
            async for _ in chat.async_stream_request("世界上最大的海洋是哪个?"):
                pass
            task = asyncio.create_task(chat.async_replay("new"))
            while not any("世" in text for text in _drafts(chat)):
                await asyncio.sleep(0.01)
                assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with await chat.async_replay("new") as twin:
                assert twin.fetch_messages() == chat.fetch_messages()
                assert types(twin).count("request_stopped") == 1
                assert types(twin).count("forked") == 1
            sound(chat)

    asyncio.run(main())


def _drafts(chat: Chat) -> list[str]:
    with chat.engine.store.reading() as reader:
        return [(draft.partial or b"").decode() for draft in reader.drafts()]


KILLED = """
import sys
from openai2 import Chat
chat = Chat("sk-test", base_url=sys.argv[1], db=sys.argv[2], conversation="source")
chat.replay("new", name="twin")
"""


def test_a_replay_that_was_killed_goes_on(tmp_path: Path) -> None:
    db = tmp_path / "log.db"
    with OfflineServer(delay=0.03) as server, Chat(KEY, base_url=server.base_url, db=db,
                                                    conversation="source") as chat:  # fmt: skip
        for _ in range(2):
            list(chat.stream_request("世界上最大的海洋是哪个?"))
        process = subprocess.Popen([sys.executable, "-c", KILLED, server.base_url, str(db)], cwd=Path.cwd())
        deadline = time.monotonic() + 30
        while not _drafts(chat) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(Refused, match="is running already"):
            chat.replay("new", name="twin")
        process.kill()
        process.wait()
        with chat.replay("new", name="twin") as twin:
            assert twin.fetch_messages() == chat.fetch_messages()
            assert "request_failed" in types(twin)
        sound(chat)


# -- many


def test_many_dialogues_on_several_models_at_once(tmp_path: Path) -> None:
    api = Api(lambda body: body["model"])
    with api.chat(tmp_path / "log.db", "a") as chat:
        for name in "abc":
            with api.chat(chat.engine, name) as one:
                one.request("one")
                one.request("two")
        chat.engine.create("empty")
        seen: list[Progress] = []

        async def run(fails: Callable[[int], bool]) -> list[Any]:
            api.fails = fails
            client = httpx2.AsyncClient(transport=httpx2.MockTransport(api.respond))
            async with Chat(KEY, db=chat.engine, http_client=client, max_retries=0) as template:
                return await template.async_replay_all(
                    models=["x", "no-such-model", "y"], jobs=3, progress=seen.append
                )

        before = len(api.bodies)
        once = [True]
        first = asyncio.run(run(lambda number: number >= before + 8 and bool(once) and once.pop()))
        failed = [one for one in first if one.error is not None]
        assert sum(isinstance(one.error, openai.NotFoundError) for one in failed) == 3
        assert sum(isinstance(one.error, openai.InternalServerError) for one in failed) == 1
        assert all(one.conversation is None for one in failed if one.model == "no-such-model")
        second = asyncio.run(run(lambda number: False))
        assert [one.missing for one in second if one.model != "no-such-model"] == [0] * 6
        asked = sum(one.asked for one in (*first, *second))
        assert asked == 3 * 2 * 2
        assert seen[-1].done == seen[-1].total == 9
        assert len(chat.engine.conversations()) == 4 + 6
        sound(chat)


def test_one_replay_tells_how_far_it_is(tmp_path: Path) -> None:
    api = Api(lambda body: body["model"])
    with api.chat(tmp_path / "log.db", "a") as chat:
        for question in ("one", "two", "three"):
            chat.request(question)
        seen: list[Progress] = []
        chat.replay("x", progress=seen.append).close()

        async def run() -> None:
            client = httpx2.AsyncClient(transport=httpx2.MockTransport(api.respond))
            async with Chat(KEY, db=chat.engine, conversation=chat.conversation, http_client=client) as twin:
                (await twin.async_replay("y", at=chat.version - 2, progress=seen.append)).close()

        asyncio.run(run())
        told = [(one.latest.model, one.latest.asked, one.latest.missing) for one in seen]
        assert told == [("x", 1, 2), ("x", 2, 1), ("x", 3, 0), ("y", 1, 0)]
        assert {one.latest.source for one in seen} == {chat.conversation.id}
        assert {(one.done, one.total) for one in seen} == {(0, 1)}


def test_the_number_of_jobs_is_checked() -> None:
    with Api().chat() as chat, pytest.raises(BadInput, match="1 or more"):
        asyncio.run(chat.async_replay_all(jobs=0))
