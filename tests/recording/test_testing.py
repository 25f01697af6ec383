"""Programs with the `openai` client, recorded once and replayed without a network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from openai2 import user_msg
from openai2.errors import BadInput
from openai2.offline import OfflineServer
from openai2.recording.format import read
from openai2.testing import Differs, recorded
from tests.support.recording import ADDRESS, KEY, ask, client, no_network, stream

# -- recording and replaying


def test_recording_replays_without_network(offline: OfflineServer, tmp_path: Path) -> None:
    path = tmp_path / "recordings" / "one.jsonl"
    before = client(offline.base_url)

    def program(base_url: str) -> list[Any]:
        inside = client(base_url)
        answers = [ask(before), stream(inside), asyncio.run(awaited(base_url))]
        inside.close()
        return answers

    async def awaited(base_url: str) -> Any:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base_url, max_retries=0) as api:
            done = await api.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "再往后是几?"}], stream=True
            )
            return [chunk.model_dump() async for chunk in done]

    with recorded(path) as recording:
        assert recording.recording
        first = program(offline.base_url)
    asked = len(offline.requests)
    with no_network(), recorded(path) as recording:
        assert not recording.recording
        assert program(ADDRESS) == first
    assert len(offline.requests) == asked
    assert len(first[1]) > 5  # in the pieces in which it came
    before.close()


@pytest.mark.parametrize("http", [openai.DefaultAioHttpClient, openai.DefaultAsyncHttpxClient])
def test_async_clients_of_the_sdk_are_replayed(
    http: Callable[[], httpx2.AsyncClient], offline: OfflineServer, tmp_path: Path
) -> None:
    async def program(base_url: str) -> str | None:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base_url, http_client=http()) as api:
            messages: Any = [user_msg("自然数50的后面是几?")]
            done = await api.chat.completions.create(model="m", messages=messages)
            return done.choices[0].message.content

    path = tmp_path / "one.jsonl"
    with recorded(path):
        assert asyncio.run(program(offline.base_url)) == "51"
    with no_network(), recorded(path):
        assert asyncio.run(program(ADDRESS)) == "51"
    assert KEY not in path.read_text("utf-8")


def test_file_is_readable_and_has_no_key(offline: OfflineServer, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    with recorded(path), client(offline.base_url) as api:
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


def test_refusals_and_lost_connections_are_replayed(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"

    def program(base_url: str) -> None:
        with client(base_url) as api:
            with pytest.raises(openai.APIError) as caught:
                api.chat.completions.create(model="m", messages=[])
            found.append((type(caught.value), caught.value.message))

    found: list[Any] = []
    with recorded(path):
        with OfflineServer() as offline:
            program(offline.base_url)
        program(ADDRESS)
    with no_network(), recorded(path):
        program(ADDRESS)
        program(ADDRESS)
    assert found[:2] == found[2:]
    assert [kind for kind, _ in found[:2]] == [openai.BadRequestError, openai.APIConnectionError]


def test_record_option_and_variable_record_again(
    offline: OfflineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.jsonl"
    with client(offline.base_url) as api:
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
        assert path.read_bytes() == before  # a failed run is not recorded


def _fail_after(program: Callable[[], object]) -> None:
    program()
    raise ZeroDivisionError


def test_innermost_recording_gets_the_requests(offline: OfflineServer, tmp_path: Path) -> None:
    original = httpx2.HTTPTransport.handle_request
    with client(offline.base_url) as api:
        with recorded(tmp_path / "outer.jsonl"):
            ask(api, "outer")
            with recorded(tmp_path / "inner.jsonl"):
                ask(api, "inner")
            ask(api, "outer again")
        with recorded(tmp_path / "inner.jsonl"):
            ask(api, "inner")
    assert httpx2.HTTPTransport.handle_request is original
    assert len(read(tmp_path / "outer.jsonl")) == 2


def test_parallel_requests_may_have_any_order(offline: OfflineServer, tmp_path: Path) -> None:
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
        answers = asyncio.run(program(offline.base_url, texts))
    with no_network(), recorded(path):
        assert asyncio.run(program(ADDRESS, texts[::-1])) == answers[::-1]


# -- differences


@pytest.fixture
def path(offline: OfflineServer, tmp_path: Path) -> Path:
    path = tmp_path / "one.jsonl"
    with recorded(path), client(offline.base_url) as api:
        ask(api, "自然数50的后面是几? 请回答", temperature=0.5)
    return path


def test_different_request_fails_with_its_differences(path: Path) -> None:
    with client(ADDRESS) as api, pytest.raises(Differs) as caught, recorded(path):
        ask(api, "自然数60的后面是几? 请回答", model="other", seed=1)
    message = str(caught.value)
    assert "request 1 differs from the recording (one.jsonl, line 2):" in message
    assert "  messages.0.content: 自然数[-50-]{+60+}的后面是几? 请回答" in message
    assert '  model: recorded "m", asked "other"' in message
    assert "  temperature: recorded 0.5, not asked" in message
    assert "  seed: not recorded, asked 1" in message


def test_ignored_fields_are_not_compared(path: Path) -> None:
    ignore = ("model", "messages.*.content", "temperature", "path")
    with client(f"{ADDRESS}/elsewhere") as api, recorded(path, ignore=ignore):
        assert ask(api, "another", model="other") == "51"
    with client(ADDRESS) as api, pytest.raises(Differs), recorded(path, ignore=ignore[:2]):
        ask(api, "another", model="other")
    with pytest.raises(BadInput):
        recorded(path, ignore="model")


def test_unrecorded_request_fails(path: Path) -> None:
    with client(ADDRESS) as api, pytest.raises(Differs, match="which ends with request 1"), recorded(path):
        _ = [ask(api, "自然数50的后面是几? 请回答", temperature=0.5) for _ in range(2)]


def test_missing_request_fails_unless_partly(path: Path) -> None:
    with pytest.raises(Differs, match="1 of 1 recorded requests were not made"), recorded(path):
        pass
    with recorded(path, partly=True):
        pass


def test_caught_difference_is_raised_at_the_end(path: Path) -> None:
    with client(ADDRESS) as api, pytest.raises(Differs, match="differs"), recorded(path):
        _swallow(lambda: ask(api, "another"))


def _swallow(program: Callable[[], object]) -> None:
    with suppress(BaseException):
        program()
