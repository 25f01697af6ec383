"""Invalid arguments are refused with one clear line, and nothing changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openai2 import (
    BadInput,
    Chat,
    Engine,
    GroupChat,
    NoIndex,
    NotAMessage,
    UnknownConversation,
    system_msg,
    user_msg,
)
from openai2.offline import OfflineServer
from tests.support.chats import KEY, WAYS, ask, chat_with


def test_group_request_without_pairs_is_refused() -> None:
    with GroupChat(KEY) as group:
        with pytest.raises(BadInput, match="got NoneType"):
            group.request(None)
        assert group.version == 0


@pytest.mark.parametrize("name", ["", " "])
def test_open_with_empty_name_is_refused(name: str) -> None:
    with Engine() as engine, pytest.raises(UnknownConversation, match="empty"):
        engine.open(name)


@pytest.mark.parametrize("index", [2, -3, 10**30])
def test_pin_index_out_of_range_is_refused(index: int, unchanging: Chat) -> None:
    for change in (unchanging.pin_messages, unchanging.unpin_messages):
        with pytest.raises(IndexError, match=str(index)) as refusal:
            change(0, index)
        assert isinstance(refusal.value, NoIndex)


@pytest.mark.parametrize("index", [True, "0", 0.0, None])
def test_pin_index_of_another_type_is_refused(index: Any, unchanging: Chat) -> None:
    with pytest.raises(BadInput):
        unchanging.pin_messages(index)


@pytest.mark.parametrize("n", [0, -1, True, 1.5, "1", None])
def test_rollback_below_one_is_refused(n: Any, unchanging: Chat) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        unchanging.rollback(n)


def test_rollback_of_all_rounds_leaves_the_system_message(offline: OfflineServer) -> None:
    chat = chat_with(offline)
    chat.add_dialogs(system_msg("be brief"))
    chat.request("hi")
    last = chat.rollback(99)
    assert repr(last) == "" and list(last) == []
    assert chat.fetch_messages() == [system_msg("be brief")]
    before = chat.version
    chat.rollback()
    assert chat.version == before


@pytest.mark.parametrize("limit", [0, -1, True, 2.5, "6"])
@pytest.mark.parametrize("name", ["MsgMaxCount", "msg_max_count"])
def test_limit_below_one_is_refused_before_the_store_opens(limit: Any, name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MsgMaxCount"):
        Chat(KEY, db=tmp_path / "a.db", **{name: limit})
    assert not list(tmp_path.iterdir())


NO_MESSAGES: list[Any] = [
    *("text", None, 5, [], {}, {"role": "user"}, {"content": "x"}, {"role": 5, "content": "x"}),
    *({"role": "", "content": "x"}, {"role": "user", "content": 5}, {"role": "user", "content": None}),
    *({"role": "user", "content": [5]}, {"role": "user", "content": b"x"}, ["role", "content"]),
    *({"role": "user", "content": "x", 5: 6}, {"role": "user", "content": "x", "y": float("nan")}),
    *({"role": "user", "content": "x", "y": {1, 2}}, {"role": "user", "content": "x", "y": object()}),
    {"role": "user", "content": "lone \ud800 surrogate"},
    {"role": "user", "content": [{"type": "text", "text": "\udfff"}]},
]


@pytest.mark.parametrize("bad", NO_MESSAGES, ids=range(len(NO_MESSAGES)))
def test_invalid_message_is_named_by_its_index(bad: Any, unchanging: Chat) -> None:
    with pytest.raises(NotAMessage, match="message 2"):
        unchanging.add_dialogs(user_msg("fine"), user_msg("fine"), bad)
    with pytest.raises(NotAMessage, match="message 1"):
        unchanging.request("hi", messages=[user_msg("fine"), bad])


def test_message_nested_too_deeply_is_refused(unchanging: Chat) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    loop: dict[str, Any] = {"role": "user", "content": "x"}
    loop["self"] = loop
    for bad in ({"role": "user", "content": "x", "deep": deep}, loop):
        with pytest.raises(NotAMessage):
            unchanging.add_dialogs(bad)
    while deep:  # release it step by step: some Pythons would recurse
        deep = deep[0]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("prompt", ["", "  \n", "lone \ud800", 5, b"x"])
def test_invalid_prompt_is_refused_in_one_line(prompt: Any, how: str, unchanging: Chat) -> None:
    with pytest.raises(BadInput) as refusal:
        ask(unchanging, how, prompt)
    assert len(str(refusal.value).splitlines()) == 1


def test_option_that_cannot_be_encoded_is_refused(unchanging: Chat) -> None:
    with pytest.raises(BadInput):
        unchanging.request("hi", user="\ud800")
    with pytest.raises((BadInput, TypeError)):
        unchanging.request("hi", user=object())


@pytest.mark.parametrize("model", [5, True, [], b"m", "\ud800"])
def test_invalid_model_is_refused(model: Any, unchanging: Chat) -> None:
    version = unchanging.version
    with pytest.raises(BadInput, match="the model"):
        unchanging.request("hi", model=model)
    unchanging.model = model
    with pytest.raises(BadInput, match="the model"):
        unchanging.request("hi")
    assert unchanging.version == version


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "6"])
def test_limit_set_later_is_checked_by_the_request(limit: Any, unchanging: Chat) -> None:
    version = unchanging.version
    unchanging.MsgMaxCount = limit
    with pytest.raises(BadInput, match="MsgMaxCount"):
        unchanging.request("hi")
    assert unchanging.version == version


@pytest.mark.parametrize("name", ["", " a", "a@b", "a\nb", "x" * 201, "\ud800", 5])
def test_invalid_conversation_name_is_refused(name: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        Chat(KEY, db=tmp_path / "a.db", conversation=name)
