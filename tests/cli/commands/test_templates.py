"""`template`, `chat --save` and `chat -t`: saved questions."""

from __future__ import annotations

import json
from pathlib import Path

from openai2.offline import OfflineServer
from tests.support.cli import contents, invoke, ok, refused


def test_template_sets_prompt_system_model_and_options(server: OfflineServer, home: Path) -> None:
    options = ["-s", "Be brief.", "-m", "small", "-o", "temperature", "0"]
    assert "chat -t sum" in invoke("chat", "--save", "sum", *options, "Sum up: {input}!").stderr
    assert not server.requests
    ok("newchat", "-t", "sum", "all of it", input="and this")
    body = server.requests[-1].body
    assert contents(body["messages"]) == ["Be brief.", "Sum up: all of it\n\nand this!"]
    assert (body["model"], body["temperature"]) == ("small", 0)
    ok("newchat", "-t", "sum", "-m", "large", "-s", "Be long.", "-o", "temperature", "1", "x")
    body = server.requests[-1].body
    assert (body["model"], body["temperature"]) == ("large", 1)
    assert contents(body["messages"]) == ["Be long.", "Sum up: x!"]
    assert (home / "openai2" / "templates" / "sum.json").stat().st_mode & 0o077 == 0


def test_template_command_lists_shows_and_removes() -> None:
    ok("chat", "--save", "sum", "-s", "Be brief.", "Sum up: {input}!")
    assert ok("template").startswith("sum  Sum up")
    assert json.loads(ok("template", "sum"))["system"] == "Be brief."
    assert list(json.loads(ok("template", "--json"))) == ["sum"]
    ok("template", "sum", "--remove")
    assert ok("template") == ""
    refused("template", "--remove", status=2)


def test_template_without_input_precedes_the_text(server: OfflineServer) -> None:
    ok("chat", "--save", "fix", "Fix {this}:")
    ok("newchat", "-t", "fix")
    assert server.requests[-1].body["messages"][-1]["content"] == "Fix {this}:"
    ok("newchat", "-t", "fix", input="code\n")
    assert server.requests[-1].body["messages"][-1]["content"] == "Fix {this}:\n\ncode"


def test_unusable_template_is_refused(server: OfflineServer, home: Path) -> None:
    assert "saved templates: none" in refused("chat", "-t", "no")
    assert "nothing to save" in refused("chat", "--save", "x")
    assert "be a word" in refused("chat", "--save", "../x", "hi")
    ok("chat", "--save", "a", "{input}")
    assert "saved templates: a" in refused("template", "b")
    assert "a text for {input}" in refused("chat", "-t", "a")
    (home / "openai2" / "templates" / "a.json").write_text('{"promt": "x"}')
    assert "promt" in refused("chat", "-t", "a", "x")
