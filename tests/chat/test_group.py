"""Group chats: audiences as text, remarks after a rollback, and all that a Chat can do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openai2 import Chat, GroupChat
from openai2.group import CLOSING, OPENING
from openai2.offline import OfflineServer
from tests.support.chats import KEY, WAYS, Scripted, ask, chat_with
from tests.support.servers import completion


def _group(server: OfflineServer, path: Path | None = None) -> GroupChat:
    group = GroupChat(KEY, "m", base_url=server.base_url, db=path, conversation=None if path is None else "g")
    group.add_dialog("苏轼", ["李清照"], "你好呀")
    return group


def _asked(server: OfflineServer) -> dict[str, Any]:
    text = server.requests[-1].body["messages"][-1]["content"]
    content: dict[str, Any] = json.loads(text[text.index(OPENING) + len(OPENING) : text.index(CLOSING)])
    return content


@pytest.mark.parametrize("how", WAYS)
def test_audiences_are_text_in_question_and_answer(offline: OfflineServer, how: str) -> None:
    group = _group(offline)
    group.add_dialog("李清照", "苏轼、杜甫", "好久不见")
    answer = ask(group, how, [("杜甫", ["苏轼", "李清照"]), ("苏轼", "杜甫")])
    content = _asked(offline)
    assert content["dialog"] == [
        {"speaker": "苏轼", "audiences": "李清照", "remark": "你好呀"},
        {"speaker": "李清照", "audiences": "苏轼、杜甫", "remark": "好久不见"},
    ]
    assert content["speak"] == [
        {"speaker": "杜甫", "audiences": "苏轼、李清照"},
        {"speaker": "苏轼", "audiences": "杜甫"},
    ]
    assert [one["audiences"] for one in json.loads(answer)] == ["苏轼、李清照", "杜甫"]
    assert [one.audiences for one in group.request_remarks([("杜甫", "苏轼、李清照")])] == [
        ["苏轼", "李清照"]
    ]


def test_rollback_gives_remarks_back_to_the_next_request(offline: OfflineServer, tmp_path: Path) -> None:
    with _group(offline, tmp_path / "a.db") as group:
        turns = [("李清照", ["苏轼"])]
        group.request(turns)
        group.add_dialog("杜甫", ["苏轼"], "写好了吗?")
        group.request(turns)
        first = [remark.remark for remark in group.pending_remarks()]
        group.rollback()
        assert first == [] and [remark.remark for remark in group.pending_remarks()] == ["写好了吗?"]
        group.rollback()
        assert [remark.remark for remark in group.pending_remarks()] == ["你好呀", "写好了吗?"]
        assert group.undo() == 1
        assert [remark.remark for remark in group.pending_remarks()] == ["写好了吗?"]
        assert group.redo() == 1
        group.request(turns)
        assert [one["remark"] for one in _asked(offline)["dialog"]] == ["你好呀", "写好了吗?"]
        assert group.engine.verify().ok
        with group.replay(at=2) as replayed:
            assert replayed.pending_remarks() == []
            assert len(replayed.fetch_messages()) == 2
    with GroupChat(KEY, db=tmp_path / "a.db", conversation="g") as again:
        assert again.pending_remarks() == [] and len(again.fetch_messages()) == 2


def test_group_is_a_chat(scripted: Scripted, tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
    calls = completion({"role": "assistant", "content": None, "tool_calls": [call]}, finish="tool_calls")
    server = scripted(calls, completion("3"), completion("4"), completion("plain"))
    group = GroupChat(KEY, "m", base_url=server.base_url, max_retries=0)
    assert isinstance(group, Chat)

    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    group.add_dialog("Ann", "Bob", "what is 1 + 2?")
    assert group.run([("Bob", ["Ann"])], tools=[add]) == "3"
    assert group.retry() == "4"
    assert group.request("and in plain words?") == "plain"
    group.pin(0)
    group.dump(tmp_path / "a.json")
    other = chat_with(server)
    other.load(tmp_path / "a.json")
    assert other.fetch_messages() == group.fetch_messages()
    assert group.engine.verify().ok
