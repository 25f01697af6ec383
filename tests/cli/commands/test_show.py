"""What looks at a conversation and changes it: list, show, log, rollback, pins, forks; JSON; the demo."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from openai2 import Engine
from tests.support.cli import Terminal, contents, counting, invoke, ok, refused, run
from tests.support.stores import plain


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A database with a conversation of three rounds, named 数数."""
    return counting(tmp_path)


def shown(db: str, *args: str) -> list[str]:
    return contents(json.loads(ok("show", "--json", "--db", db, *args)))


def test_options_stand_before_or_after_the_command(db: str) -> None:
    after = ok("list", "--db", db, "--json")
    assert after == ok("--db", db, "--json", "list") == ok("--json", "list", "--db", db)
    assert ok("-c", "数数", "--db", db, "show") == ok("show", "数", "--db", db)


def test_list(db: str) -> None:
    (line,) = json.loads(ok("list", "--json", "--db", db))
    assert list(line) == ["id", "name", "version", "messages", "updated"]
    assert (line["name"], line["messages"]) == ("数数", 6)
    assert datetime.fromisoformat(line["updated"].replace("Z", "+00:00"))
    assert f"* {line['id'][:8]}     6" in ok("list", "--db", db)
    ok("archive", "数数", "--db", db)
    assert json.loads(ok("list", "--json", "--db", db)) == []
    assert "(archived)" in ok("list", "--all", "--db", db)
    ok("unarchive", "数数", "--db", db)
    ok("rename", "数数", "数字", "--db", db)
    assert json.loads(ok("--json", "list", "--db", db))[0]["name"] == "数字"


def test_a_list_that_was_tampered_with_tells_the_way_out(db: str) -> None:
    before = ok("list", "--db", db)
    for forged in ("nothing", b"\xff"):
        with plain(Path(db)) as sql:
            sql.execute("UPDATE cursors SET position = ? WHERE name = 'conversations'", (forged,))
        assert "run `openai2 rebuild`" in refused("list", "--db", db)
        ok("rebuild", "--db", db)
        assert ok("list", "--db", db) == before


def test_where_there_is_nothing_yet() -> None:
    """What asks how many there are is answered; what asks for one is refused, for programs as for people."""
    for many in (["list"], ["search", "x"], ["stats"]):
        assert json.loads(ok(*many, "--json")) == []
    for command in ("show", "show x", "log", "log --graph", "why", "verify", "diff a b", "head", "export"):
        words = command.split()
        assert "openai2 chat" in refused(*words)
        if words[0] not in ("head", "export"):  # which have no --json
            assert invoke(*words, "--json").stdout == ""
            refused(*words, "--json")
    assert not Path(ok("path", "database").strip()).exists()


@pytest.mark.parametrize("nothing", ["", " "])
def test_an_empty_path_is_not_the_usual_database(nothing: str) -> None:
    ok("newchat", "--offline", "hi")
    for command in (["list"], ["show"], ["path"], ["chat", "--offline", "hi"], ["verify", "--json"]):
        for words in ([*command, "--db", nothing], ["--db", nothing, *command]):
            assert "--db" in refused(*words, status=2)


def test_show_today_and_then(db: str) -> None:
    assert shown(db) == ["自然数50的后面是几?", "51", "再往后是几?", "52", "再往后呢?", "53"]
    assert shown(db, "@4") == shown(db, "数数@4") == ["自然数50的后面是几?", "51"]
    log = [json.loads(line) for line in ok("log", "--json", "--db", db).splitlines()]
    assert shown(db, f"@{{{log[3]['time']}}}") == ["自然数50的后面是几?", "51"]
    assert len(shown(db, f"数数@{{{log[-1]['time'][:10]}Z}}")) == 6
    text = ok("show", "--db", db)
    assert text.splitlines()[:2] == ["[0] user", "    自然数50的后面是几?"]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("没有", "there is no conversation 没有"),
        ("数数@99", "versions go from 1 to 10"),
        ("@0", "has no version 0"),
        ("@x", "invalid version x"),
        ("@", "invalid version @"),
        ("@{yesterday}", "cannot parse yesterday as a time"),
        ("@{2026-13-01}", "cannot parse 2026-13-01 as a time"),
        ("@{2001-01-01}", "did not exist yet"),
        ("\x1b[2J", "there is no conversation ^[[2J"),
    ],
)
def test_references_that_name_nothing(db: str, reference: str, said: str) -> None:
    assert said in refused("show", reference, "--db", db)


def test_log_for_programs(db: str) -> None:
    lines = [json.loads(line) for line in ok("log", "--json", "--db", db).splitlines()]
    fields = ["conversation", "version", "position", "type", "time", "data", "hash"]
    assert all(list(line) == fields for line in lines)
    assert [line["version"] for line in lines] == list(range(1, 11))
    with Engine(db) as engine:
        events = list(engine.open("数数").events())
    assert [line["hash"] for line in lines] == [event.hash for event in events]
    assert [line["data"] for line in lines] == [event.data for event in events]


def test_log_for_people(db: str) -> None:
    ok("rollback", "--db", db)
    ok("undo", "--db", db)
    ok("pin", "0", "--db", db)
    text = ok("log", "--db", db)
    for part in (
        *("asked m", "user: 再往后呢?", "assistant: 53", " + 1 tokens", "key ", " s\n"),
        *("rolled back 1 round", "- assistant: 53", "undone: back to version 10", "pinned"),
    ):
        assert part in text, part
    assert text.index("assistant: 51") < text.index("assistant: 53") < text.index("rolled back")
    assert "assistant: 51" not in ok("log", "-n", "3", "--db", db)
    assert len(ok("log", "-n", "2", "--json", "--db", db).splitlines()) == 2


def test_going_back_and_forward(db: str) -> None:
    assert ok("rollback", "--db", db) == "[user]:再往后是几? [assistant]:52\n"
    assert ok("undo", "--db", db) == "[user]:再往后呢? [assistant]:53\n"
    assert ok("redo", "--db", db) == "[user]:再往后是几? [assistant]:52\n"
    assert ok("restore", "@4", "--db", db) == "[user]:自然数50的后面是几? [assistant]:51\n"
    assert ok("rollback", "9", "--db", db) == ""
    assert ok("undo", "3", "--db", db, "-c", "数数") == "[user]:再往后呢? [assistant]:53\n"
    assert ok("redo", "3", "--db", db) == ""
    assert "nothing to redo" in refused("redo", "--db", db)
    assert "1 or more" in refused("rollback", "0", "--db", db)
    assert "give a version" in refused("restore", "数数", "--db", db)
    assert "@3" in refused("rollback", "-c", "数数@3", "--db", db)


def test_pins_by_positive_and_negative_index(db: str) -> None:
    result = invoke("pin", "0", "-2", "-1", "--db", db)
    assert "0, 4, 5" in result.stderr
    assert "pinned now: 4" in invoke("--db", db, "unpin", "-1", "0").stderr
    assert [line for line in ok("show", "--db", db).splitlines() if "(pinned)" in line] == [
        "[4] user (pinned)"
    ]
    assert "from -6 to 5" in refused("pin", "6", "--db", db)
    refused("pin", "--nosuch", "--db", db, status=2)
    refused("pin", "--db", db, status=2)


def test_forks(db: str) -> None:
    assert ok("fork", "@4", "--name", "岔路", "--db", db) == "岔路\n"
    assert shown(db, "岔路") == ["自然数50的后面是几?", "51"]
    assert "forked from 数数@4" in ok("log", "岔路", "--db", db)
    assert "岔路 (from 数数@4)" in ok("list", "--db", db)
    assert "岔路" in refused("fork", "--name", "岔路", "--db", db)
    unnamed = ok("fork", "岔路", "--db", db).strip()
    assert shown(db, unnamed) == shown(db, "岔路")


def test_verify_and_heads(db: str, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.write_text(ok("head", "--all", "--db", db), encoding="utf-8")
    assert heads.read_text("utf-8").split()[1:] == ["10", json.loads(_log(db)[-1])["hash"]]
    report = json.loads(ok("verify", "--json", "--db", db, "--heads", str(heads)))
    assert report == {"ok": True, "conversations": 1, "events": 10, "problems": []}
    assert "10 events in 1 conversation" in invoke("verify", "--db", db).stderr
    heads.write_text(f"{heads.read_text('utf-8').split()[0]} 11 {'00' * 32}\n", encoding="utf-8")
    assert "1 problem was found" in refused("verify", "--db", db, "--heads", str(heads))
    heads.write_text("rubbish\n", encoding="utf-8")
    assert "line 1" in refused("verify", "--db", db, "--heads", str(heads))
    ok("rebuild", "--db", db)
    assert len(shown(db)) == 6


def _log(db: str) -> list[str]:
    return ok("log", "--json", "--db", db).splitlines()


def test_terminals_are_sent_no_control_characters(db: str) -> None:
    nasty = "\x1b]0;x\x07\x9b31m\u202e\r\x7f 改"
    with Engine(db) as engine:
        engine.open("数数").add([{"role": "user\x1b[1m", "content": nasty}])
    for command in (["show"], ["log"], ["list"], ["show", "--json"], ["log", "--json"]):
        text = ok(*command, "--db", db, *(["数数"] if command != ["list"] else []))
        assert not set(text) & set("\x1b\x07\x9b\u202e\r\x7f"), command
    assert shown(db, "数数")[-1] == nasty
    assert "^[]0;x^G\\x9b31m\\u202e^M^? 改" in ok("show", "数数", "--db", db)


# -- the demo, and how little is loaded


def test_the_demo(tmp_path: Path) -> None:
    path = str(tmp_path / "demo's.db")
    done = run("demo", "--db", path)
    assert done.returncode == 0, done.stderr
    for part in (
        "太平洋",
        "rolled back 2 rounds",
        "[0] user (pinned)",
        "华盛顿",
        "forked from Anna@",
        ": 0 problems",
    ):
        assert part in done.stdout, part
    assert f"openai2 chat --offline --db '{tmp_path}/demo'\"'\"'s.db'" in done.stdout
    assert "\x1b" not in done.stdout
    assert run("demo", "--db", path).returncode == 0, "a second time, beside the first"
    assert json.loads(ok("verify", "--json", "--db", path))["ok"]


def test_no_command_at_all_is_a_question_for_help() -> None:
    assert ok() == ok("--help")


def test_old_and_narrow_terminals(db: str) -> None:
    assert "\\u81ea\\u7136\\u6570" in run("show", "--db", db, PYTHONIOENCODING="ascii").stdout
    for columns in (20, 30, 50):
        for command in ("list", "show", "log"):
            with Terminal(command, "--db", db, columns=columns) as terminal:
                assert terminal.ends() == 0
                # Nothing was cut by the screen itself: every line of ours is complete on it.
                assert any("…" in line or "53" in line or "数数" in line for line in terminal.lines)


def test_search(db: str) -> None:
    ok("rollback", "--db", db)
    assert "数数@" in ok("search", "往后", "--db", db) and "再[往后]呢?" in ok("search", "往后", "--db", db)
    found = json.loads(ok("search", "往后", "--json", "--db", db))
    assert all(list(line) == ["conversation", "name", "version", "role", "text"] for line in found)
    assert {line["text"] for line in found} == {"再往后是几?", "再往后呢?"}
    for line in found:
        assert line["text"] in shown(db, f"数数@{line['version']}")
    assert len(json.loads(ok("search", "往后", "--current", "--json", "--db", db, "-c", "数"))) == 1
    assert json.loads(ok("search", "没有的话", "--json", "--db", db)) == []
    assert json.loads(ok("search", "话", "--json", "--db", db + "-not-there")) == []


def test_every_command_tells_what_it_is_for() -> None:
    listed: dict[str, Any] = {}
    from openai2.cli import MODULES, cli

    for name in MODULES:
        command = cli.get_command(None, name)  # type: ignore[arg-type]  # it needs none
        assert command is not None and command.help and command.name == name
        listed[name] = command
        assert ok(name, "-h").startswith("Usage: openai2 ")
    assert set(listed) <= set(ok("--help").split())
