"""`chat` and `newchat`: attachments, options of the API, output options, and concurrent use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from openai2.cli.session.one_shot import first_code_block
from openai2.engine import Engine
from openai2.offline import OfflineServer
from tests.support import cli as cli_support
from tests.support.cli import COMMAND, KEY, TIMEOUT, Terminal, invoke, ok, refused, run, shown, started

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


def _question(server: OfflineServer) -> Any:
    return server.requests[-1].body["messages"][-1]["content"]


def test_attached_files_become_content_parts(server: OfflineServer, tmp_path: Path) -> None:
    image, text = tmp_path / "a.bin", tmp_path / "笔记.txt"
    image.write_bytes(PNG)
    text.write_text("第一行\n", "utf-8")
    ok("newchat", "What is this?", "-a", str(image), "-a", str(text))
    question, picture, note = _question(server)
    assert question == {"type": "text", "text": "What is this?"}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert note["text"] == "笔记.txt:\n\n第一行\n"


def test_standard_input_can_be_attached(server: OfflineServer) -> None:
    ok("newchat", "What is this?", "-a", "-", input=PNG)
    assert _question(server)[1]["image_url"]["url"].startswith("data:image/png")
    ok("newchat", "-a", "-", input=b"hello")
    assert "hello" in json.dumps(_question(server))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [(None, "no.bin"), (b"\0\1\2", "no.bin"), (b"", "no.bin"), (b"x" * 20_000_001, "20 MB")],
)
def test_unsupported_attachment_is_refused_before_asking(
    server: OfflineServer, tmp_path: Path, raw: bytes | None, reason: str
) -> None:
    path = tmp_path / "no.bin"
    if raw is not None:
        path.write_bytes(raw)
    assert reason in refused("newchat", "hi", "-a", str(path))
    assert refused("newchat", "hi", "-a", str(tmp_path))
    assert not server.requests
    assert json.loads(ok("list", "--json")) == []


def test_api_options_are_json_if_valid_else_text(server: OfflineServer) -> None:
    ok("newchat", "hi", "-o", "temperature", "0.5", "-o", "stop", '["x"]', "-o", "user", "anna")
    body = server.requests[-1].body
    assert (body["temperature"], body["stop"], body["user"]) == (0.5, ["x"], "anna")
    (started,) = [line for line in ok("log", "--json").splitlines() if "request_started" in line]
    assert json.loads(started)["data"]["options"]["temperature"] == 0.5


@pytest.mark.parametrize(
    ("name", "reason"), [("no_such", "no_such"), ("stream", "-o stream"), ("api_key", "-o api_key")]
)
def test_unknown_api_option_is_refused(server: OfflineServer, name: str, reason: str) -> None:
    assert reason in refused("newchat", "hi", "-o", name, "1")
    assert json.loads(ok("list", "--json")) == []


def test_usage_goes_to_standard_error(server: OfflineServer) -> None:
    result = invoke("newchat", "-u", "自然数1的后面是几?")
    assert result.stdout == "2\n" and " tokens · " in result.stderr


def test_no_stream_asks_for_a_complete_answer(server: OfflineServer) -> None:
    assert ok("newchat", "--no-stream", "自然数1的后面是几?") == "2\n"
    assert "stream" not in server.requests[-1].body
    assert "APIC" not in refused("chat", "--no-stream", "--base-url", "http://127.0.0.1:1/v1", "x")


def test_extract_prints_the_first_code_block_only(server: OfflineServer) -> None:
    text = "Here:\n```python\nprint(1)\n```\nand\n```\nno\n```"
    assert ok("newchat", "-x", text) == "print(1)\n"
    assert ok("newchat", "-x", "--no-stream", text) == "print(1)\n"
    result = invoke("newchat", "-x", "自然数1的后面是几?")
    assert (result.exit_code, result.stdout) == (1, "") and "code" in result.stderr


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a\n```\nx\n```\n", "x\n"),
        ("~~~~ sh\n```\nx\n~~~\n~~~~", "```\nx\n~~~\n"),
        ("- a\n  ```py\n  if x:\n      y\n  ```", "if x:\n    y\n"),
        ("```py\ncut off", "cut off"),
        ("```not a fence``` at all", None),
        ("nothing", None),
        ("``\nx\n``", None),
    ],
)
def test_first_block_follows_the_rules_of_fences(text: str, code: str | None) -> None:
    assert first_code_block(text) == code


def test_options_for_one_answer_need_a_prompt(server: OfflineServer) -> None:
    with Terminal("chat", "-x", "--offline") as terminal:
        terminal.shows("give a PROMPT")
        assert terminal.ends() == 2


def test_interactive_continues_at_the_terminal_after_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = tmp_path / "notes"
    notes.write_text("自然数1的后面是几?\n", "utf-8")
    line = f"{' '.join(COMMAND)} newchat --offline -i < {notes}"
    monkeypatch.setattr(cli_support, "COMMAND", ["/bin/sh", "-c", line])
    with Terminal() as terminal:
        terminal.shows("2").enters("再往后是几?").says("3").enters("/exit")
        assert terminal.ends() == 0
    assert shown() == ["自然数1的后面是几?", "2", "再往后是几?", "3"]


def test_interactive_without_a_terminal_fails() -> None:
    done = run("newchat", "--offline", "-i", "hi")
    assert done.returncode == 1 and "no terminal" in done.stderr


def test_concurrent_questions_are_both_kept_and_reported() -> None:
    with OfflineServer(delay=0.3) as slow:
        more = {"OPENAI_BASE_URL": slow.base_url, "OPENAI_API_KEY": KEY}
        ok("newchat", "--offline", "-c", "both", "自然数1的后面是几?")
        question = "意大利的首都是什么？日本首都是什么？再说一遍，说得长一点"
        with started("chat", "-c", "both", question, **more) as first:
            with Engine(ok("path", "database").strip()) as engine:
                conversation = engine.open("both")
                while not any(r.type == "request_started" for r in conversation.events(after=4)):
                    assert first.poll() is None
            second = run("chat", "-c", "both", "--offline", "自然数100的后面是几?")
            _, errors = first.communicate(timeout=TIMEOUT)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "another process is asking" in second.stderr
    assert "another process added 1 round" in errors + second.stderr  # by the process that ends last
    assert len(shown(None, "both")) == 6
    assert ok("verify") == ""
