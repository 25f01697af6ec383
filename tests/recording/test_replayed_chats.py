"""Chats replayed: from a log, and the examples of the tutorial from their recordings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openai2 import AKPool, Chat, Engine, GroupChat, assistant_msg, user_msg
from openai2.errors import BadInput, RecordingError
from openai2.offline import OfflineServer
from openai2.testing import Differs, recorded
from tests.support.recording import ADDRESS, KEY, ask, client, no_network

# -- from a log


def test_conversation_in_a_log_replays(offline: OfflineServer, tmp_path: Path) -> None:
    db = tmp_path / "log.db"

    def program(**options: Any) -> list[Any]:
        with Chat(KEY, MsgMaxCount=3, max_retries=0, **options) as chat:
            answers = [chat.request("自然数1的后面是几?"), chat.request("再往后是几?")]
            answers += ["".join(chat.stream_request("再往后呢?")), chat.retry(temperature=0.3)]
            return [answers, chat.fetch_messages()]

    first = program(base_url=offline.base_url, db=db, conversation="mine")
    with no_network(), recorded(db, "mine"):
        assert program(base_url=ADDRESS) == first
    with Engine(db) as engine, client(ADDRESS) as api:
        with recorded(engine.open("mine"), partly=True):
            assert ask(api, "自然数1的后面是几?", model="gpt-4o-mini") == "2"
        with pytest.raises(Differs, match="mine, version"), recorded(engine, "mine"):
            ask(api, "something else", model="gpt-4o-mini")


def test_log_without_answers_is_refused(engine: Engine) -> None:
    engine.create("empty").add([user_msg("one"), assistant_msg("two")])
    with pytest.raises(RecordingError, match="no answered request"):
        recorded(engine, "empty")
    with pytest.raises(BadInput, match="name the conversation"):
        recorded(engine)
    with pytest.raises(BadInput, match="recorded already"):
        recorded(engine, "empty", record=True)


# -- the tutorial, from its own recordings


def numbers(options: dict[str, Any]) -> Any:
    tony, lucy = Chat(KEY, **options), Chat(KEY, **options)
    asked = ("自然数50的后面是几?", "再往后是几?", "再往后呢?")
    return [(tony.request(text), lucy.request(text.replace("50", "100"))) for text in asked]


def streams(options: dict[str, Any]) -> Any:
    chat = Chat(KEY, **options)

    async def main() -> list[str]:
        whole = await chat.async_request("世界上最大的海洋是哪个")
        return [whole, *[text async for text in chat.async_stream_request("世界上最大的海洋是哪个?")]]

    return [*chat.stream_request("世界上最大的海洋是哪个?"), *asyncio.run(main())]


def rollbacks(options: dict[str, Any]) -> Any:
    anna = Chat(KEY, **options)
    answers = [anna.request("自然数1的后面是几?"), anna.request("再往后是几?")]
    answers += [anna.request("再往后呢?") for _ in range(5)]
    return [*answers, str(anna.rollback()), str(anna.rollback(n=3)), anna.request("再往后呢?")]


def pools(options: dict[str, Any]) -> Any:
    carl = Chat(AKPool([f"{KEY}-{n}" for n in range(3)]), **options)
    answers = [carl.request("自然数1的后面是几?"), carl.request("再往后是几?")]
    carl.reset_api_key(f"{KEY}-another")
    return [*answers, carl.request("再往后呢?")]


def imports(options: dict[str, Any]) -> Any:
    ariel, jenny = Chat(KEY, **options), Chat(KEY, **options)
    ariel.request("自然数1的后面是几?")
    ariel.request("再往后是几?")
    jenny.add_dialogs(*ariel.fetch_messages())
    mickey = Chat(KEY, **options)
    mickey.add_dialogs(user_msg("请问1+1=几?"), assistant_msg("1+1=10"))
    return [jenny.request("再往后呢?"), mickey.request("哦吼, 你还敢骂我呀?"), mickey.fetch_messages()]


def group(options: dict[str, Any]) -> Any:
    group = GroupChat(KEY, **options)
    group.roles["苏轼"] = "宋朝诗人，他的词风格独特，既有儒家的教诲，又有生活的乐趣。"
    group.roles["李清照"] = "宋代著名的女词人，其词句优美，情感真挚。"
    group.add_dialog(speaker="苏轼", audiences=["李清照"], remark="你好呀")
    return json.loads(group.request([("李清照", ["苏轼"])]))


def limits(options: dict[str, Any]) -> Any:
    ariel = Chat(KEY, MsgMaxCount=6, **options)
    answers = [
        ariel.request(text) for text in ("英国的首都是什么？", "日本首都是什么？", "意大利的首都是什么？")
    ]
    ariel.pin_messages(0, -2, -1)
    answers += [ariel.request(text) for text in ("美国的首都是什么？", "法国的首都叫什么？")]
    ariel.unpin_messages(0)
    return [answers, ariel.fetch_messages()]


@pytest.mark.parametrize("example", [numbers, streams, rollbacks, pools, imports, group, limits])
def test_tutorial_replays(
    example: Callable[[dict[str, Any]], Any], offline: OfflineServer, tmp_path: Path
) -> None:
    path = tmp_path / "tutorial.jsonl"
    with recorded(path):
        first = example({"base_url": offline.base_url, "model": "gpt-3.5-turbo"})
    with no_network(), recorded(path):
        assert example({"base_url": ADDRESS, "model": "gpt-3.5-turbo"}) == first
