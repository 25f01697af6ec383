"""Recorded dialogues as tests: recorded once, replayed ever after, with the network out of reach."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

from openai2 import AKPool, Chat, Engine, GroupChat, assistant_msg, user_msg
from openai2.errors import BadInput, RecordingError
from openai2.offline import OfflineServer
from openai2.recording.format import Answered, Asked, Exchange, read, write
from openai2.testing import Differs, recorded

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

KEY = "sk-test-0123456789"
ADDRESS = "http://127.0.0.1:9/v1"  # where nobody listens


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineServer]:
    with OfflineServer() as server:
        yield server


@contextmanager
def no_network() -> Generator[None, None, None]:
    """Any connection is refused, whoever asks for it."""

    def refuse(*args: Any) -> None:
        raise AssertionError("something went over the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def client(base_url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, base_url=base_url, max_retries=0, **options)


def ask(api: openai.OpenAI, text: str = "自然数50的后面是几?", **options: Any) -> str | None:
    create: Any = api.chat.completions.create
    done: ChatCompletion = create(messages=[user_msg(text)], **{"model": "m", **options})
    return done.choices[0].message.content


def stream(api: openai.OpenAI, text: str = "世界上最大的海洋是哪个?") -> list[str | None]:
    messages: Any = [{"role": "user", "content": text}]
    with api.chat.completions.create(model="m", messages=messages, stream=True) as chunks:
        return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]


# -- recording and replaying


def test_recorded_once_and_replayed_ever_after(server: OfflineServer, tmp_path: Path) -> None:
    path = tmp_path / "recordings" / "one.jsonl"
    before = client(server.base_url)

    def program(base_url: str) -> list[Any]:
        inside = client(base_url)
        said = [ask(before), stream(inside), asyncio.run(awaited(base_url))]
        inside.close()
        return said

    async def awaited(base_url: str) -> Any:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base_url, max_retries=0) as api:
            done = await api.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "再往后是几?"}], stream=True
            )
            return [chunk.model_dump() async for chunk in done]

    with recorded(path) as recording:
        assert recording.recording
        first = program(server.base_url)
    asked = len(server.requests)
    with no_network(), recorded(path) as recording:
        assert not recording.recording
        assert program(ADDRESS) == first
    assert len(server.requests) == asked
    assert len(first[1]) > 5  # in the pieces in which it came
    before.close()


def test_the_file_is_readable_and_holds_no_key(server: OfflineServer, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    with recorded(path), client(server.base_url) as api:
        ask(api, f"my key is {KEY}")
        stream(api, f"my key is {KEY}")
    text = path.read_text("utf-8")
    assert KEY not in text and "[key]" in text and "authorization" not in text.lower()
    assert "127.0.0.1" not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert lines[0] == {"openai2 recording": 1}
    assert lines[1]["request"]["body"]["messages"] == [{"role": "user", "content": "my key is [key]"}]
    assert lines[2] == {"response": {"status": 200, "content_type": "application/json"}}
    assert "choices" in lines[3]["piece"]["json"]
    assert any("data" in line["piece"] for line in lines if isinstance(line.get("piece"), dict))
    with recorded(path), client(ADDRESS) as api:
        ask(api, f"my key is {KEY}")
        stream(api, f"my key is {KEY}")


@pytest.mark.parametrize(
    "pieces",
    [
        [b'data: {"a":1}\n\n', b"data: [DONE]\n\n"],
        [b'data: {"a": 1}\n\nda', b'ta: {"a":"\xe4', b'\xb8\xad"}\n\n'],
        [b"\xff\xfe", b""],
        [b'data: {"n":1e400}\n\n', b'data: {"a":1,"a":2}\n\n'],
    ],
)
def test_pieces_come_back_to_the_byte(pieces: list[bytes], tmp_path: Path) -> None:
    answered = Answered(200, "text/event-stream", pieces, ("ReadError", "cut"))
    write(tmp_path / "x.jsonl", [Exchange(Asked("POST", "/v1", {"b": 1}), answered)])
    (found,) = read(tmp_path / "x.jsonl")
    assert found.answered == answered


def test_refusals_and_lost_connections_are_recorded_too(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"

    def program(base_url: str) -> None:
        with client(base_url) as api:
            with pytest.raises(openai.APIError) as caught:
                api.chat.completions.create(model="m", messages=[])
            found.append((type(caught.value), caught.value.message))

    found: list[Any] = []
    with recorded(path):
        with OfflineServer() as server:
            program(server.base_url)
        program(ADDRESS)
    with no_network(), recorded(path):
        program(ADDRESS)
        program(ADDRESS)
    assert found[:2] == found[2:]
    assert [kind for kind, _ in found[:2]] == [openai.BadRequestError, openai.APIConnectionError]


def test_recorded_anew_on_demand(
    server: OfflineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.jsonl"
    with client(server.base_url) as api:
        with recorded(path):
            ask(api, "one")
        with recorded(path, record=True):
            ask(api, "two")
        monkeypatch.setenv("OPENAI2_RECORD", "1")
        with recorded(path, record=False):
            ask(api, "two")
        with recorded(path):
            ask(api, "three")
        monkeypatch.setenv("OPENAI2_RECORD", "0")
        with recorded(path):
            ask(api, "three")
        before = path.read_bytes()
        with pytest.raises(ZeroDivisionError), recorded(path, record=True):
            _fail_after(lambda: ask(api, "four"))
        assert path.read_bytes() == before  # what failed is not recorded


def _fail_after(program: Callable[[], object]) -> None:
    program()
    raise ZeroDivisionError


def test_the_innermost_answers_and_nothing_stays_patched(server: OfflineServer, tmp_path: Path) -> None:
    original = httpx2.HTTPTransport.handle_request
    with client(server.base_url) as api:
        with recorded(tmp_path / "outer.jsonl"):
            ask(api, "outer")
            with recorded(tmp_path / "inner.jsonl"):
                ask(api, "inner")
            ask(api, "outer again")
        with recorded(tmp_path / "inner.jsonl"):
            ask(api, "inner")
    assert httpx2.HTTPTransport.handle_request is original
    assert len(read(tmp_path / "outer.jsonl")) == 2


def test_what_runs_in_parallel_may_come_in_any_order(server: OfflineServer, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"

    async def program(base_url: str, texts: list[str]) -> list[str | None]:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base_url) as api:

            async def one(text: str) -> str | None:
                done = await api.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": text}]
                )
                return done.choices[0].message.content

            return list(await asyncio.gather(*map(one, texts)))

    texts = [f"自然数{n}的后面是几?" for n in range(10, 20)]
    with recorded(path):
        said = asyncio.run(program(server.base_url, texts))
    with no_network(), recorded(path):
        assert asyncio.run(program(ADDRESS, texts[::-1])) == said[::-1]


# -- what differs


@pytest.fixture
def path(server: OfflineServer, tmp_path: Path) -> Path:
    path = tmp_path / "one.jsonl"
    with recorded(path), client(server.base_url) as api:
        ask(api, "自然数50的后面是几? 请回答", temperature=0.5)
    return path


def test_the_first_request_that_differs_fails_with_what_differs(path: Path) -> None:
    with client(ADDRESS) as api, pytest.raises(Differs) as caught, recorded(path):
        ask(api, "自然数60的后面是几? 请回答", model="other", seed=1)
    told = str(caught.value)
    assert "request 1 differs from the recording (one.jsonl, line 2):" in told
    assert "  messages.0.content: 自然数[-50-]{+60+}的后面是几? 请回答" in told
    assert '  model: recorded "m", asked "other"' in told
    assert "  temperature: recorded 0.5, not asked" in told
    assert "  seed: not recorded, asked 1" in told


def test_what_to_ignore_can_be_said(path: Path) -> None:
    ignore = ("model", "messages.*.content", "temperature", "path")
    with client(f"{ADDRESS}/elsewhere") as api, recorded(path, ignore=ignore):
        assert ask(api, "another", model="other") == "51"
    with client(ADDRESS) as api, pytest.raises(Differs), recorded(path, ignore=ignore[:2]):
        ask(api, "another", model="other")
    with pytest.raises(BadInput):
        recorded(path, ignore="model")


def test_one_request_too_many(path: Path) -> None:
    with client(ADDRESS) as api, pytest.raises(Differs, match="which ends with request 1"), recorded(path):
        _ = [ask(api, "自然数50的后面是几? 请回答", temperature=0.5) for _ in range(2)]


def test_recorded_requests_that_were_not_made(path: Path) -> None:
    with pytest.raises(Differs, match="1 of 1 recorded requests were not made"), recorded(path):
        pass
    with recorded(path, partly=True):
        pass


def test_a_program_that_swallows_everything_still_fails(path: Path) -> None:
    with client(ADDRESS) as api, pytest.raises(Differs, match="differs"), recorded(path):
        _swallow(lambda: ask(api, "another"))


def _swallow(program: Callable[[], object]) -> None:
    with suppress(BaseException):
        program()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b'{"openai2 recording":1}\n', "is empty"),
        (b'{"openai2 recording":2}\n', "written by a newer openai2"),
        (b'{"openai2 recording":1}\n{"request":{"method":"POST","path":"/"}}\n', "is cut off"),
        (b'{"openai2 recording":1}\n{"what":1}\n', "line 2 is none of its lines"),
        (b'{"openai2 recording":1}\nnonsense\n', "line 2 is none of its lines"),
        (b"SQLite format 3\0", "line 1 is none of its lines"),
    ],
)
def test_a_recording_that_is_none(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=told):
        recorded(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        recorded(tmp_path / "none.jsonl", record=False)
    with pytest.raises(RecordingError, match="nothing was asked"), recorded(tmp_path / "new.jsonl"):
        pass


# -- from a log


def test_a_conversation_in_a_log_answers(server: OfflineServer, tmp_path: Path) -> None:
    db = tmp_path / "log.db"

    def program(**options: Any) -> list[Any]:
        with Chat(KEY, MsgMaxCount=3, max_retries=0, **options) as chat:
            said = [chat.request("自然数1的后面是几?"), chat.request("再往后是几?")]
            said += ["".join(chat.stream_request("再往后呢?")), chat.retry(temperature=0.3)]
            return [said, chat.fetch_messages()]

    first = program(base_url=server.base_url, db=db, conversation="mine")
    with no_network(), recorded(db, "mine"):
        assert program(base_url=ADDRESS) == first
    with Engine(db) as engine, client(ADDRESS) as api:
        with recorded(engine.open("mine"), partly=True):
            assert ask(api, "自然数1的后面是几?", model="gpt-4o-mini") == "2"
        with pytest.raises(Differs, match="mine, version"), recorded(engine, "mine"):
            ask(api, "something else", model="gpt-4o-mini")


def test_a_log_that_cannot_answer() -> None:
    with Engine() as engine:
        engine.create("empty").add([user_msg("one"), assistant_msg("two")])
        with pytest.raises(RecordingError, match="no answered request"):
            recorded(engine, "empty")
        with pytest.raises(BadInput, match="name the conversation"):
            recorded(engine)
        with pytest.raises(BadInput, match="records itself"):
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
    said = [anna.request("自然数1的后面是几?"), anna.request("再往后是几?")]
    said += [anna.request("再往后呢?") for _ in range(5)]
    return [*said, str(anna.rollback()), str(anna.rollback(n=3)), anna.request("再往后呢?")]


def pools(options: dict[str, Any]) -> Any:
    carl = Chat(AKPool([f"{KEY}-{n}" for n in range(3)]), **options)
    said = [carl.request("自然数1的后面是几?"), carl.request("再往后是几?")]
    carl.reset_api_key(f"{KEY}-another")
    return [*said, carl.request("再往后呢?")]


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
    said = [
        ariel.request(text) for text in ("英国的首都是什么？", "日本首都是什么？", "意大利的首都是什么？")
    ]
    ariel.pin_messages(0, -2, -1)
    said += [ariel.request(text) for text in ("美国的首都是什么？", "法国的首都叫什么？")]
    ariel.unpin_messages(0)
    return [said, ariel.fetch_messages()]


@pytest.mark.parametrize("example", [numbers, streams, rollbacks, pools, imports, group, limits])
def test_the_tutorial_a_second_time(
    example: Callable[[dict[str, Any]], Any], server: OfflineServer, tmp_path: Path
) -> None:
    path = tmp_path / "tutorial.jsonl"
    with recorded(path):
        first = example({"base_url": server.base_url, "model": "gpt-3.5-turbo"})
    with no_network(), recorded(path):
        assert example({"base_url": ADDRESS, "model": "gpt-3.5-turbo"}) == first


# -- pytest

SUITE = """
import os
import openai
import pytest

def ask(text):
    with openai.OpenAI(api_key="sk-test", base_url=os.environ["ADDRESS"], max_retries=0) as api:
        done = api.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        return done.choices[0].message.content

def test_it(openai2_recording):
    assert ask("自然数50的后面是几?") == "51"

@pytest.mark.openai2_recording(ignore=["messages"])
@pytest.mark.parametrize("text", ["a/b"])
def test_loose(openai2_recording, text):
    assert ask(os.environ["TEXT"])

def test_changed(openai2_recording):
    assert ask(os.environ["TEXT"])

def test_failing(openai2_recording):
    ask("x")
    raise ZeroDivisionError
"""


def test_the_fixture(server: OfflineServer, tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(address: str, text: str) -> str:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "."]
        if not _installed():
            command[3:3] = ["-p", "openai2.pytest_plugin"]
        paths = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "ADDRESS": address, "TEXT": text, "PYTHONPATH": paths}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    told = run(server.base_url, "first")
    assert "1 failed, 3 passed" in told, told
    kept = sorted(path.name for path in (tmp_path / "recordings").iterdir())
    names = ["test_changed", "test_it", "test_loose-a-b"]
    assert kept == [f"test_suite.{name}.jsonl" for name in names]
    told = run(ADDRESS, "second")
    assert "2 failed, 2 passed" in told, told
    assert "messages.0.content" in told and "ZeroDivisionError" not in told.split("test_changed")[0]


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "openai2.pytest_plugin" for point in entry_points(group="pytest11"))


def test_the_plugin_loads_nothing() -> None:
    code = (
        "import sys, pytest, openai2.pytest_plugin; print('httpx2' in sys.modules, 'openai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
