"""Profiles describe providers, and each makes a Chat that asks where it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openai2 import BadInput, Chat
from openai2.profiles import PROFILES, profile, profile_from
from tests.support.misbehaving_server import EVENTS, Misbehaving, Script, completion, event, stream, whole

PAGE = Path(__file__).resolve().parents[2] / "docs" / "providers.md"


@pytest.mark.parametrize("name", PROFILES)
def test_profile_makes_a_chat(name: str) -> None:
    known = profile(name)
    assert known.key == (known.environment is not None)
    with Misbehaving([whole(completion())]) as server:
        key = known.key_or_placeholder("sk-made-up-0123456789" if known.key else None)
        chat = Chat(key, known.model or "m", **known.options(server.base_url))
        assert chat.request("hi") == "an answer"
        assert b"POST /v1/chat/completions" in server.heads[0]


@pytest.mark.parametrize("name", PROFILES)
def test_providers_page_lists_each_profile(name: str) -> None:
    known = profile(name)
    (row,) = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| `{name}`")]
    for told in (known.base_url, known.model, known.environment):
        assert told is None or f"`{told}`" in row


def test_invalid_profile_raises() -> None:
    with pytest.raises(BadInput, match="openrouter"):
        profile("nowhere")
    with pytest.raises(BadInput, match="base_url"):
        profile("azure").options()
    with pytest.raises(BadInput, match="modle"):
        profile_from({"name": "mine", "title": "Mine", "modle": "m"})
    assert profile_from({"name": "mine", "title": "Mine", "base_url": "http://x/v1"}).model is None


SHAPES: dict[str, Script] = {
    "openrouter": [EVENTS, b": OPENROUTER PROCESSING\n\n" * 3,
                   event(role="assistant", content="", reasoning="hm"), stream("an answer")],
    "deepseek": [EVENTS, event(role="assistant", content=None, reasoning_content="hm"),
                 event(content="an answer", reasoning_content=None), stream()],
    "azure": [EVENTS, b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n',
              stream("an answer")],
    "ollama": [EVENTS, event(role="assistant", content="", reasoning="hm"), stream("an answer")],
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_each_stream_format_is_read(name: str) -> None:
    with Misbehaving(SHAPES[name]) as server:
        options: dict[str, Any] = profile(name).options(server.base_url)
        chat = Chat("sk-made-up-0123456789", "m", **options)
        assert "".join(chat.stream_request("hi")) == "an answer"
        assert chat.fetch_messages()[1] == {"role": "assistant", "content": "an answer"}
