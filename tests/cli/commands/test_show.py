"""`show` and `head`; references to conversations; what commands do without a database."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openai2 import Engine
from tests.support.cli import QUESTIONS, Terminal, invoke, logged, ok, refused, run, shown


def test_options_may_precede_or_follow_the_command(db: str) -> None:
    after = ok("list", "--db", db, "--json")
    assert after == ok("--db", db, "--json", "list") == ok("--json", "list", "--db", db)
    assert ok("-c", "数数", "--db", db, "show") == ok("show", "数", "--db", db)


@pytest.mark.parametrize("command", ["list", "search x", "stats"])
def test_query_without_a_database_finds_nothing(command: str) -> None:
    assert json.loads(ok(*command.split(), "--json")) == []
    assert not Path(ok("path", "database").strip()).exists()


@pytest.mark.parametrize(
    "command", ["show", "show x", "log", "log --graph", "why", "verify", "diff a b", "head", "export"]
)
def test_reading_without_a_database_is_refused(command: str) -> None:
    words = command.split()
    assert "openai2 chat" in refused(*words)
    if words[0] not in ("head", "export"):  # they have no --json
        assert invoke(*words, "--json").stdout == ""
        refused(*words, "--json")
    assert not Path(ok("path", "database").strip()).exists()


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("command", ["list", "show", "path", "chat --offline hi", "verify --json"])
def test_empty_database_path_is_wrong_usage(command: str, empty: str) -> None:
    for words in ([*command.split(), "--db", empty], ["--db", empty, *command.split()]):
        assert "--db" in refused(*words, status=2)


def test_show_prints_the_view_now_at_a_version_or_time(db: str) -> None:
    assert shown(db) == ["自然数50的后面是几?", "51", "再往后是几?", "52", "再往后呢?", "53"]
    assert shown(db, "@4") == shown(db, "数数@4") == ["自然数50的后面是几?", "51"]
    events = logged(db)
    assert shown(db, f"@{{{events[3]['time']}}}") == ["自然数50的后面是几?", "51"]
    assert len(shown(db, f"数数@{{{events[-1]['time'][:10]}Z}}")) == 6
    assert ok("show", "--db", db).splitlines()[:2] == ["[0] user", "    自然数50的后面是几?"]


@pytest.mark.parametrize(
    ("reference", "reason"),
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
def test_unknown_reference_is_refused(db: str, reference: str, reason: str) -> None:
    assert reason in refused("show", reference, "--db", db)


def test_show_with_another_limit_changes_nothing(db: str) -> None:
    ok("pin", "0", "-c", "数数", "--db", db)
    before = ok("head", "数数", "--db", db)
    assert shown(db, "数数", "--max-messages", "3") == [QUESTIONS[0], "再往后呢?", "53"]
    assert shown(db, "数数@4", "--max-messages", "1") == ["51"]
    assert ok("head", "数数", "--db", db) == before


def test_head_prints_id_version_and_last_hash(db: str) -> None:
    last = logged(db)[-1]
    assert ok("head", "--all", "--db", db).split() == [last["conversation"], "10", last["hash"]]


def test_control_characters_never_reach_a_terminal(db: str) -> None:
    hostile = "\x1b]0;x\x07\x9b31m\u202e\r\x7f 改"
    with Engine(db) as engine:
        engine.open("数数").add([{"role": "user\x1b[1m", "content": hostile}])
    for command in (["show"], ["log"], ["list"], ["show", "--json"], ["log", "--json"]):
        text = ok(*command, "--db", db, *(["数数"] if command != ["list"] else []))
        assert not set(text) & set("\x1b\x07\x9b\u202e\r\x7f"), command
    assert shown(db, "数数")[-1] == hostile
    assert "^[]0;x^G\\x9b31m\\u202e^M^? 改" in ok("show", "数数", "--db", db)


def test_old_encoding_gets_escapes(db: str) -> None:
    assert "\\u81ea\\u7136\\u6570" in run("show", "--db", db, PYTHONIOENCODING="ascii").stdout


@pytest.mark.parametrize("columns", [20, 30, 50])
@pytest.mark.parametrize("command", ["list", "show", "log"])
def test_lines_fit_a_narrow_terminal(db: str, command: str, columns: int) -> None:
    with Terminal(command, "--db", db, columns=columns) as terminal:
        assert terminal.ends() == 0
        assert any("…" in line or "53" in line or "数数" in line for line in terminal.lines)
