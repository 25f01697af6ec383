"""MsgMaxCount: it holds after every addition to the view, in the same step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openai2 import Chat, GroupChat, NoRoom, assistant_msg, user_msg
from tests.support.chats import KEY, Scripted, chat_with, event_types
from tests.support.servers import ScriptedServer, completion

ROUNDS = [user_msg("0"), assistant_msg("1"), user_msg("2"), assistant_msg("3")]
CALL = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
CALLS = completion({"role": "assistant", "content": None, "tool_calls": [CALL]}, finish="tool_calls")


def _contents(chat: Chat) -> list[Any]:
    return [message["content"] for message in chat.fetch_messages()]


def now() -> str:
    """Tell the time."""
    return "noon"


def _lowered(chat: Chat) -> None:
    chat.MsgMaxCount = 2
    chat.request("4")


#: What adds to the view ROUNDS of a chat with MsgMaxCount=4, and what is then left.
ADDITIONS: dict[str, tuple[Callable[[Chat], object], list[Any]]] = {
    "request": (lambda chat: chat.request("4"), ["2", "3", "4", "yes"]),
    "add": (lambda chat: chat.add_dialogs(user_msg("4")), ["1", "2", "3", "4"]),
    "add many": (lambda chat: chat.add_dialogs(*ROUNDS, user_msg("4")), ["1", "2", "3", "4"]),
    "lowered": (_lowered, ["4", "yes"]),
    "retry": (lambda chat: chat.retry(), ["0", "1", "2", "yes"]),
    "view as it is": (lambda chat: chat.request(messages=[user_msg("4")]), ["2", "3", "4", "yes"]),
}


@pytest.mark.parametrize("kind", [Chat, GroupChat])
@pytest.mark.parametrize("addition", ADDITIONS)
def test_limit_holds_after_an_addition_and_one_undo_takes_both_back(
    addition: str, kind: type[Chat], scripted: Scripted
) -> None:
    act, left = ADDITIONS[addition]
    chat = kind(KEY, "m", base_url=scripted(completion("yes")).base_url, MsgMaxCount=4)
    chat.add_dialogs(*ROUNDS)
    act(chat)
    assert _contents(chat) == left
    assert chat.undo() == 1 and chat.fetch_messages() == ROUNDS
    assert chat.redo() == 1 and _contents(chat) == left
    assert chat.engine.verify().ok


def test_limit_holds_in_load_reopened_chats_and_forks(tmp_path: Path, scripted: Scripted) -> None:
    server = scripted(completion("yes"))
    with chat_with(server, db=tmp_path / "a.db", conversation="c") as chat:
        chat.add_dialogs(*ROUNDS)
        chat.dump(tmp_path / "a.json")
    with chat_with(server, db=tmp_path / "a.db", conversation="c", MsgMaxCount=3) as chat:
        assert len(chat.fetch_messages()) == 4  # nothing was added yet
        chat.load(tmp_path / "a.json")
        assert _contents(chat) == ["1", "2", "3"]
        with chat.fork() as fork:
            fork.add_dialogs(user_msg("4"))
            assert _contents(fork) == ["2", "3", "4"]
        version = chat.version - 5
        chat.restore(version)
        assert _contents(chat) == ["0", "1", "2", "3"]  # a restored view is not cut
        chat.MsgMaxCount = None
        chat.add_dialogs(user_msg("4"))
        assert len(chat.fetch_messages()) == 5


def test_limit_keeps_a_call_with_the_result_that_is_added(scripted: Scripted) -> None:
    chat = chat_with(scripted(CALLS, completion("noon")), MsgMaxCount=3)
    chat.add_dialogs(*ROUNDS[:3])
    assert chat.run("4", tools=[now]) == "noon"
    assert [message["role"] for message in chat.fetch_messages()] == ["assistant", "tool", "assistant"]


def test_addition_without_room_adds_nothing_and_says_why(scripted: Scripted) -> None:
    server: ScriptedServer = scripted(CALLS, completion("noon"))
    chat = chat_with(server, MsgMaxCount=4)
    chat.add_dialogs(*ROUNDS)
    chat.pin_messages(0, 1, 2, 3)
    before = chat.version
    with pytest.raises(NoRoom, match="4 pinned messages leave no room for 1 more with MsgMaxCount=4"):
        chat.add_dialogs(user_msg("4"))
    with pytest.raises(NoRoom, match="4 pinned"):
        chat.request("4")
    assert chat.version == before and not server.asked
    narrow = chat_with(server, MsgMaxCount=1)
    with pytest.raises(NoRoom, match="2 messages belong together, but MsgMaxCount=1"):
        narrow.run("now?", tools=[now])
    assert event_types(narrow).count("message_added") == 2  # the question and the call
