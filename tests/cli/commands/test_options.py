"""What `chat` takes: files, options of the API, templates, and how an answer is wanted; shell completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from openai2.cli.session.one_shot import first_block
from openai2.engine import Engine
from openai2.offline import OfflineServer
from tests.support.cli import (
    COMMAND,
    KEY,
    TIMEOUT,
    Terminal,
    contents,
    environment,
    invoke,
    ok,
    refused,
    run,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


def body(server: OfflineServer) -> dict[str, Any]:
    last: dict[str, Any] = server.requests[-1].body
    return last


def asked(server: OfflineServer) -> Any:
    return body(server)["messages"][-1]["content"]


# -- files


def test_files_go_along(server: OfflineServer, tmp_path: Path) -> None:
    image, text = tmp_path / "a.bin", tmp_path / "笔记.txt"
    image.write_bytes(PNG)
    text.write_text("第一行\n", "utf-8")
    ok("newchat", "What is this?", "-a", str(image), "-a", str(text))
    question, picture, note = asked(server)
    assert question == {"type": "text", "text": "What is this?"}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,")
    assert note["text"] == "笔记.txt:\n\n第一行\n"


def test_standard_input_goes_along(server: OfflineServer) -> None:
    ok("newchat", "What is this?", "-a", "-", input=PNG)
    assert asked(server)[1]["image_url"]["url"].startswith("data:image/png")
    ok("newchat", "-a", "-", input=b"hello")
    assert "hello" in json.dumps(asked(server))


@pytest.mark.parametrize(
    ("raw", "said"), [(None, "no.bin"), (b"\0\1\2", "no.bin"), (b"", "no.bin"), (b"x" * 20_000_001, "20 MB")]
)
def test_files_that_cannot(server: OfflineServer, tmp_path: Path, raw: bytes | None, said: str) -> None:
    path = tmp_path / "no.bin"
    if raw is not None:
        path.write_bytes(raw)
    assert said in refused("newchat", "hi", "-a", str(path))
    assert refused("newchat", "hi", "-a", str(tmp_path))
    assert not server.requests
    assert json.loads(ok("list", "--json")) == []


# -- options of the API


def test_options_are_json_where_they_read_as_such(server: OfflineServer) -> None:
    ok("newchat", "hi", "-o", "temperature", "0.5", "-o", "stop", '["x"]', "-o", "user", "anna")
    assert (body(server)["temperature"], body(server)["stop"], body(server)["user"]) == (0.5, ["x"], "anna")
    (started,) = [line for line in ok("log", "--json").splitlines() if "request_started" in line]
    assert json.loads(started)["data"]["options"]["temperature"] == 0.5


@pytest.mark.parametrize(
    ("name", "said"), [("no_such", "no_such"), ("stream", "-o stream"), ("api_key", "-o api_key")]
)
def test_options_that_there_are_not(server: OfflineServer, name: str, said: str) -> None:
    assert said in refused("newchat", "hi", "-o", name, "1")
    assert json.loads(ok("list", "--json")) == []


# -- templates


def test_templates(server: OfflineServer, home: Path) -> None:
    said = ["-s", "Be brief.", "-m", "small", "-o", "temperature", "0", "Sum up: {input}!"]
    assert "chat -t sum" in invoke("chat", "--save", "sum", *said).stderr
    assert not server.requests
    ok("newchat", "-t", "sum", "all of it", input="and this")
    messages = body(server)["messages"]
    assert contents(messages) == ["Be brief.", "Sum up: all of it\n\nand this!"]
    assert (body(server)["model"], body(server)["temperature"]) == ("small", 0)
    ok("newchat", "-t", "sum", "-m", "large", "-s", "Be long.", "-o", "temperature", "1", "x")
    assert (body(server)["model"], body(server)["temperature"]) == ("large", 1)
    assert contents(body(server)["messages"]) == ["Be long.", "Sum up: x!"]
    assert ok("template").startswith("sum  Sum up")
    assert json.loads(ok("template", "sum"))["system"] == "Be brief."
    assert list(json.loads(ok("template", "--json"))) == ["sum"]
    assert (home / "openai2" / "templates" / "sum.json").stat().st_mode & 0o077 == 0
    ok("template", "sum", "--remove")
    assert ok("template") == ""


def test_a_template_without_a_place_for_input(server: OfflineServer) -> None:
    ok("chat", "--save", "fix", "Fix {this}:")
    ok("newchat", "-t", "fix")
    assert asked(server) == "Fix {this}:"
    ok("newchat", "-t", "fix", input="code\n")
    assert asked(server) == "Fix {this}:\n\ncode"


def test_templates_that_there_are_not(server: OfflineServer, home: Path) -> None:
    assert "there are: none" in refused("chat", "-t", "no")
    assert "nothing to save" in refused("chat", "--save", "x")
    assert "be a word" in refused("chat", "--save", "../x", "hi")
    ok("chat", "--save", "a", "{input}")
    assert "a text for {input}" in refused("chat", "-t", "a")
    (home / "openai2" / "templates" / "a.json").write_text('{"promt": "x"}')
    assert "promt" in refused("chat", "-t", "a", "x")
    refused("template", "--remove", status=2)
    assert "there are: a" in refused("template", "b")


# -- the answer


def test_usage_goes_to_standard_error(server: OfflineServer) -> None:
    result = invoke("newchat", "-u", "自然数1的后面是几?")
    assert result.stdout == "2\n" and " tokens · " in result.stderr


def test_no_stream(server: OfflineServer) -> None:
    assert ok("newchat", "--no-stream", "自然数1的后面是几?") == "2\n"
    assert "stream" not in body(server)
    assert "APIC" not in refused("chat", "--no-stream", "--base-url", "http://127.0.0.1:1/v1", "x")


def test_only_the_code(server: OfflineServer) -> None:
    text = "Here:\n```python\nprint(1)\n```\nand\n```\nno\n```"
    assert ok("newchat", "-x", text) == "print(1)\n"
    assert ok("newchat", "-x", "--no-stream", text) == "print(1)\n"
    result = invoke("newchat", "-x", "自然数1的后面是几?")
    assert (result.exit_code, result.stdout) == (1, "") and "no block of code" in result.stderr


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
def test_the_first_block(text: str, code: str | None) -> None:
    assert first_block(text) == code


def test_what_is_of_one_answer_needs_a_question(server: OfflineServer) -> None:
    with Terminal("chat", "-x", "--offline") as terminal:
        terminal.shows("give a PROMPT")
        assert terminal.ends() == 2


def test_piping_in_and_then_talking(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("自然数1的后面是几?\n", "utf-8")
    line = f"{' '.join(COMMAND)} newchat --offline -i < {notes}"
    with _shell(line) as terminal:
        terminal.shows("2").enters("再往后是几?").says("3").enters("/exit")
        assert terminal.ends() == 0
    assert contents(json.loads(ok("show", "--json"))) == ["自然数1的后面是几?", "2", "再往后是几?", "3"]


def _shell(line: str) -> Terminal:
    """A terminal in which a shell runs *line*."""
    from tests.support import cli as cli_support

    command = cli_support.COMMAND
    try:
        cli_support.COMMAND = ["/bin/sh", "-c", line]
        return Terminal()
    finally:
        cli_support.COMMAND = command


def test_talking_needs_a_terminal() -> None:
    done = subprocess.run(
        [*COMMAND, "newchat", "--offline", "-i", "hi"],
        env=environment(),
        input=b"",
        capture_output=True,
        start_new_session=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1 and b"no terminal" in done.stderr


# -- others in the same conversation


def test_two_at_once_lose_nothing_and_are_told() -> None:
    with OfflineServer(delay=0.3) as slow:
        more = {"OPENAI_BASE_URL": slow.base_url, "OPENAI_API_KEY": KEY}
        ok("newchat", "--offline", "-c", "both", "自然数1的后面是几?")
        first = subprocess.Popen(
            [*COMMAND, "chat", "-c", "both", "意大利的首都是什么？日本首都是什么？再说一遍，说得长一点"],
            env=environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        guard = threading.Timer(TIMEOUT, first.kill)
        guard.start()
        with Engine(ok("path", "database").strip()) as engine:
            conversation = engine.open("both")
            while not any(r.type == "request_started" for r in conversation.events(after=4)):
                assert first.poll() is None
        second = run("chat", "-c", "both", "--offline", "自然数100的后面是几?")
        _, told = first.communicate(timeout=TIMEOUT)
        guard.cancel()
    assert (first.returncode, second.returncode) == (0, 0)
    assert "is being asked elsewhere" in second.stderr
    assert "1 round was added elsewhere" in told.decode() + second.stderr  # whoever ends last
    assert len(json.loads(ok("show", "both", "--json"))) == 6
    assert ok("verify") == ""


# -- completion


def completed(*words: str, **more: str) -> list[str]:
    """What bash would offer for the last of these words."""
    line = {"COMP_WORDS": " ".join(["openai2", *words]), "COMP_CWORD": str(len(words))}
    done = run(_OPENAI2_COMPLETE="bash_complete", **line, **more)
    assert done.returncode == 0, done.stderr
    return [entry.partition(",")[2] for entry in done.stdout.splitlines() if entry]


def test_names_are_completed(server: OfflineServer, tmp_path: Path) -> None:
    assert completed("show", "") == []
    assert not Path(ok("path", "database").strip()).exists()
    ok("newchat", "-c", "旅行 one", "hi")
    ok("newchat", "-c", "旅行 two", "hi")
    ok("chat", "--save", "sum", "{input}")
    assert completed("show", "旅") == ["旅行 two", "旅行 one"]
    assert completed("chat", "-c", "'旅行 o") == ["旅行 one"]
    assert completed("chat", "-t", "") == ["sum"]
    assert "deepseek" in completed("chat", "--profile", "")
    assert completed("--db", str(tmp_path / "no.db"), "show", "") == []
    assert "show" in completed("sh")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell(shell: str) -> None:
    assert "_OPENAI2_COMPLETE" in ok("completion", shell)
    assert shell in ok("completion", "--help")


def test_completion_and_looking_load_nothing_heavy(server: OfflineServer) -> None:
    ok("newchat", "-c", "one", "hi")
    code = (
        "import sys\n"
        "from openai2.cli import cli\n"
        "try:\n    cli(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'openai', 'rich', 'prompt_toolkit', 'sqlite_utils', 'httpx2'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    complete = {"_OPENAI2_COMPLETE": "bash_complete", "COMP_WORDS": "openai2 show o", "COMP_CWORD": "2"}
    plain: dict[str, str] = {}
    for args, more in (
        ([], complete),
        (["list"], plain),
        (["show"], plain),
        (["why"], plain),
        (["log", "--graph"], plain),
        (["template"], plain),
        (["config"], plain),
        (["export"], plain),
        (["chat", "--help"], plain),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            env={**environment(), **more},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (args, done.stderr.decode())
    assert os.environ["OPENAI_API_KEY"] == KEY
