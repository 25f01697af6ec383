"""The tutorial, example by example: over real HTTP, on a real file and in memory, sync and async."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from openai2 import AKPool, Chat, Engine, GroupChat, assistant_msg, user_msg
from openai2.offline import OfflineServer
from tests.support.chats import WAYS
from tests.support.chats import ask as ask_by

Ask = Callable[[Chat, str], str]
NewChat = Callable[..., Chat]

api_key = "sk-not-a-key"
OCEAN = list("世界上最大的海洋是太平洋。")


@pytest.fixture
def run() -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs coroutines in one event loop, as one `asyncio.run` would."""
    loop = asyncio.new_event_loop()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> Ask:
    if request.param == "sync":
        return Chat.request

    def ask(chat: Chat, text: str) -> str:
        answer = run(chat.async_request(text))
        assert isinstance(answer, str)
        return answer

    return ask


@pytest.fixture(params=["file", "memory"])
def chat(request: pytest.FixtureRequest, offline: OfflineServer, tmp_path: Path) -> Iterator[NewChat]:
    """`Chat` as the tutorial calls it, on a file or in memory."""
    made: list[Chat] = []

    def new(key: Any = api_key, model: str = "gpt-3.5-turbo", **options: Any) -> Chat:
        db = tmp_path / "talk.db" if request.param == "file" else None
        made.append(Chat(api_key=key, model=model, base_url=offline.base_url, db=db, **options))
        return made[-1]

    yield new
    for one in made:
        one.close()
    if request.param == "file":
        with Engine(tmp_path / "talk.db") as engine:  # what was shown is what is on disk
            kept = {line.id: engine.open(line.id).messages() for line in engine.conversations()}
        for one in made:
            assert kept.get(one.conversation.id, []) == SHOWN.pop(one.conversation.id, [])
    SHOWN.clear()


SHOWN: dict[str, list[dict[str, Any]]] = {}


def shown(chat: Chat) -> list[dict[str, Any]]:
    """What the chat shows, to be compared with the file once the chat is closed."""
    SHOWN[chat.conversation.id] = chat.fetch_messages()
    return chat.fetch_messages()


def pinned(chat: Chat) -> list[bool]:
    return [held.pinned for held in chat.conversation.view_messages()]


def dialogue(*texts: str) -> list[dict[str, Any]]:
    """Questions and answers in turn, as messages."""
    return [(assistant_msg if place % 2 else user_msg)(text) for place, text in enumerate(texts)]


def test_talking(chat: NewChat, ask: Ask) -> None:
    Tony, Lucy = chat(), chat()  # noqa: N806 - as in the tutorial
    assert ask(Tony, "自然数50的后面是几?") == "51"
    assert ask(Lucy, "自然数100的后面是几?") == "101"
    assert ask(Tony, "再往后是几?") == "52"
    assert ask(Lucy, "再往后是几?") == "102"
    assert ask(Tony, "再往后呢?") == "53"
    assert ask(Lucy, "再往后呢?") == "103"
    assert shown(Tony) == dialogue("自然数50的后面是几?", "51", "再往后是几?", "52", "再往后呢?", "53")
    assert shown(Lucy) == dialogue("自然数100的后面是几?", "101", "再往后是几?", "102", "再往后呢?", "103")


def test_streaming(chat: NewChat) -> None:
    Lucy = chat()  # noqa: N806
    assert list(Lucy.stream_request("世界上最大的海洋是哪个?")) == OCEAN
    assert shown(Lucy) == dialogue("世界上最大的海洋是哪个?", "".join(OCEAN))


def test_asynchronous(chat: NewChat) -> None:
    Tony = chat()  # noqa: N806

    async def main() -> str:
        return await Tony.async_request("世界上最大的海洋是哪个")

    assert asyncio.run(main()) == "世界上最大的海洋是太平洋。"
    assert shown(Tony) == dialogue("世界上最大的海洋是哪个", "世界上最大的海洋是太平洋。")


def test_asynchronous_streaming(chat: NewChat) -> None:
    Tony = chat()  # noqa: N806

    async def main() -> list[str]:
        return [answer async for answer in Tony.async_stream_request("世界上最大的海洋是哪个?")]

    assert asyncio.run(main()) == OCEAN
    assert shown(Tony) == dialogue("世界上最大的海洋是哪个?", "".join(OCEAN))


def test_rollback(chat: NewChat, ask: Ask) -> None:
    Anna = chat()  # noqa: N806
    asked = ["自然数1的后面是几?", "再往后是几?", *["再往后呢?"] * 5]
    assert [ask(Anna, text) for text in asked] == ["2", "3", "4", "5", "6", "7", "8"]
    last = Anna.rollback()
    assert repr(last) == str(last) == "[user]:再往后呢? [assistant]:7"
    assert repr(Anna.rollback(n=3)) == "[user]:再往后呢? [assistant]:4"
    assert ask(Anna, "再往后呢?") == "5"
    assert shown(Anna) == dialogue(
        "自然数1的后面是几?", "2", "再往后是几?", "3", "再往后呢?", "4", "再往后呢?", "5"
    )


def test_a_pool_of_keys(chat: NewChat, ask: Ask) -> None:
    AK1 = "sk-ug8w-fake"  # noqa: N806
    AK2 = AKPool(["sk-mf40-fake", "sk-m6g7-fake", ...])  # noqa: N806
    AK3 = AKPool(["sk-affe-fake", "sk-fam4-fake", ...])  # noqa: N806
    Duke, Carl, Denny, Chris = chat(AK1), chat(AK2), chat(AK2), chat(AK3)  # noqa: N806
    for one in (Duke, Carl, Denny, Chris, Carl, Denny):
        assert ask(one, "自然数1的后面是几?") == "2"
    assert [key.requests for key in AK2.status()] == [2, 2]
    assert [key.requests for key in AK3.status()] == [1, 0]
    payers = {record.data["answer"]["key"] for record in Carl.events() if "answer" in record.data}
    assert payers <= {key.fingerprint for key in AK2.status()}
    for one in (Duke, Carl, Denny, Chris):
        shown(one)


def test_resetting_the_key(chat: NewChat, ask: Ask) -> None:
    before = AKPool(["sk-mf40-fake"])
    Carl = chat(before)  # noqa: N806
    ask(Carl, "自然数1的后面是几?")
    AK5 = "sk-jg93-fake"  # noqa: N806
    AK6 = AKPool(["sk-vb7l-fake", "sk-d3lv-fake"])  # noqa: N806
    Carl.reset_api_key(AK5)
    assert ask(Carl, "再往后是几?") == "3"
    Carl.reset_api_key(AK6)
    assert ask(Carl, "再往后呢?") == "4"
    assert [key.requests for key in before.status()] == [1]
    assert [key.requests for key in AK6.status()] == [1, 0]
    payers = [record.data["answer"]["key"] for record in Carl.events() if "answer" in record.data]
    assert len(set(payers)) == 3
    shown(Carl)


def test_export_archive_and_import(chat: NewChat, ask: Ask, tmp_path: Path) -> None:
    Ariel = chat()  # noqa: N806
    assert ask(Ariel, "自然数1的后面是几?") == "2"
    assert ask(Ariel, "再往后是几?") == "3"
    expected = dialogue("自然数1的后面是几?", "2", "再往后是几?", "3")
    assert shown(Ariel) == expected

    record = json.dumps(Ariel.fetch_messages(), ensure_ascii=False)
    (tmp_path / "record.json").write_text(record, encoding="utf8")
    restored = json.loads((tmp_path / "record.json").read_text(encoding="utf8"))
    assert restored == expected

    Jenny = chat()  # noqa: N806
    Jenny.add_dialogs(*restored)
    assert ask(Jenny, "再往后呢?") == "4"
    assert shown(Jenny) == [*expected, *dialogue("再往后呢?", "4")]

    Ariel.add_dialogs(*Ariel.fetch_messages())  # into itself: the history is there twice
    assert shown(Ariel) == expected * 2


def test_forged_dialogue(chat: NewChat, ask: Ask) -> None:
    Mickey = chat()  # noqa: N806
    forged = dialogue("请问1+1=几?", "1+1=10", "那10+10=几?", "10+10=你大爷, 你提的这些问题真弱智!")
    Mickey.add_dialogs(*forged)
    answer = ask(Mickey, "哦吼, 你还敢骂我呀?")
    assert answer == "非常抱歉，我刚才的回答有些不适当。1+1=2, 10+10=20。非常抱歉给你带来困扰！"
    assert shown(Mickey)[:2] == dialogue("请问1+1=几?", "1+1=10")
    assert len(shown(Mickey)) == 6


CAPITALS = (
    ("英国的首都是什么？", "伦敦"),
    ("日本首都是什么？", "东京"),
    ("意大利的首都是什么？", "罗马"),
    ("美国的首都是什么？", "华盛顿"),
    ("世界上国土面积最大的国家是哪个？", "俄罗斯"),
    ("法国的首都叫什么？", "巴黎"),
    ("青蛙的幼体叫什么？", "蝌蚪"),
    ("世界上最大的海洋是什么？", "太平洋"),
)


def test_a_limit_on_messages(chat: NewChat, ask: Ask, offline: OfflineServer) -> None:
    MsgMaxCount = 6
    Ariel = chat(MsgMaxCount=MsgMaxCount)  # noqa: N806
    for question, answer in CAPITALS:
        assert ask(Ariel, question) == answer
        assert len(offline.requests[-1].body["messages"]) <= MsgMaxCount
        assert len(Ariel.fetch_messages()) <= MsgMaxCount
    assert shown(Ariel) == dialogue(
        *("法国的首都叫什么？", "巴黎", "青蛙的幼体叫什么？", "蝌蚪"), *("世界上最大的海洋是什么？", "太平洋")
    )


def test_pins(chat: NewChat, ask: Ask) -> None:
    MsgMaxCount = 6
    Ariel = chat(MsgMaxCount=MsgMaxCount)  # noqa: N806
    for question, answer in CAPITALS[:3]:
        assert ask(Ariel, question) == answer
    texts = [message["content"] for message in Ariel.fetch_messages()]
    assert texts == ["英国的首都是什么？", "伦敦", "日本首都是什么？", "东京", "意大利的首都是什么？", "罗马"]

    Ariel.pin_messages(0, -2, -1)
    assert pinned(Ariel) == [True, False, False, False, True, True]
    Ariel.pin_messages(-1, 0)  # those that are pinned may be named again
    assert pinned(Ariel) == [True, False, False, False, True, True]

    assert ask(Ariel, CAPITALS[3][0]) == "华盛顿"
    texts = [message["content"] for message in Ariel.fetch_messages()]
    assert texts == [
        *("英国的首都是什么？", "东京", "意大利的首都是什么？", "罗马", "美国的首都是什么？", "华盛顿")
    ]
    assert pinned(Ariel) == [True, False, True, True, False, False]

    Ariel.pin_messages(-2)
    for question, answer in CAPITALS[4:]:
        assert ask(Ariel, question) == answer
    assert shown(Ariel) == [
        *dialogue("英国的首都是什么？"),
        *dialogue("意大利的首都是什么？", "罗马"),
        *dialogue("美国的首都是什么？"),
        *dialogue("世界上最大的海洋是什么？", "太平洋"),
    ]
    assert pinned(Ariel) == [True, True, True, True, False, False]

    Ariel.unpin_messages(0, -2, -1)  # those that are not pinned may be among them
    assert pinned(Ariel) == [False, True, True, True, False, False]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("kept", ["file", "memory"])
def test_a_group_chat(how: str, kept: str, offline: OfflineServer, tmp_path: Path) -> None:
    db = tmp_path / "group.db" if kept == "file" else None
    with GroupChat(api_key=api_key, model="gpt-3.5-turbo", base_url=offline.base_url, db=db) as group:
        group.roles["苏轼"] = "宋朝诗人，他的词风格独特，既有儒家的教诲，又有生活的乐趣。"
        group.roles["李清照"] = "宋代著名的女词人，其词句优美，情感真挚。"
        group.roles["杜甫"] = "唐朝著名诗人。"
        group.add_dialog(speaker="苏轼", audiences=["李清照"], remark="你好呀")
        group.add_dialog(speaker="李清照", audiences=["苏轼"], remark="好久不见, 你最近在忙什么?")
        group.add_dialog(
            speaker="杜甫", audiences=["苏轼"], remark="上次托你帮我写的那首《茅屋为秋风所破歌》写好了吗?"
        )
        turns = [("苏轼", ["李清照"]), ("苏轼", ["杜甫"])]
        spoken = json.loads(ask_by(group, how, turns))
        assert [(one["speaker"], one["audiences"]) for one in spoken] == [
            ("苏轼", "李清照"),
            ("苏轼", "杜甫"),
        ]
        assert "好久不见" in spoken[0]["remark"]
        assert "茅屋为秋风所破歌" in spoken[1]["remark"]
        sent = offline.requests[-1].body["messages"][-1]["content"]
        for said in ("宋代著名的女词人", "唐朝著名诗人", "你好呀", "好久不见"):
            assert said in sent


def test_all_options_of_the_client_and_of_create(chat: NewChat, ask: Ask, offline: OfflineServer) -> None:
    """The openai package's own signatures say which they are."""
    Tony = chat(timeout=30.0, max_retries=0, temperature=0.3, user="tony")  # noqa: N806
    ask(Tony, "自然数1的后面是几?")
    received = offline.requests[-1].body
    assert re.match("自然数", received["messages"][0]["content"])
    assert (received["temperature"], received["user"], received["model"]) == (0.3, "tony", "gpt-3.5-turbo")
    assert "timeout" not in received and "max_retries" not in received
    shown(Tony)
