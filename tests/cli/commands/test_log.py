"""log -f and --graph, and why."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import dropwhile, islice
from pathlib import Path
from typing import IO

import pytest

from openai2 import Engine, user_msg
from tests.support.cli import COMMAND, QUESTIONS, TIMEOUT, counting, environment, invoke, ok, refused


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A database with a conversation of three rounds, named 数数, and a fork of it, named 支."""
    return counting(tmp_path, fork="支")


def test_the_family_as_a_graph(db: str) -> None:
    assert ok("log", "支", "--graph", "--db", db).splitlines() == [
        "* 数数@10",
        "| * 支@1 (here)",
        "|/",
        "* 数数@7",
    ]
    assert [one["name"] for one in json.loads(ok("log", "数数", "--graph", "--json", "--db", db))] == [
        "数数",
        "支",
    ]
    refused("log", "--graph", "-f", "--db", db, status=2)


def test_the_last_events(db: str) -> None:
    assert len(ok("log", "数数", "--json", "-n", "2", "--db", db).splitlines()) == 2
    assert ok("log", "数数", "--json", "-n", "0", "--db", db) == ""
    assert len(ok("log", "数数", "--json", "-n", "99", "--db", db).splitlines()) == 10


def test_why(db: str) -> None:
    ok("rollback", "2", "-c", "数数", "--db", db)
    lines = ok("why", "数数", "--db", db).splitlines()
    assert lines[0] == "+ user: 自然数50的后面是几?"
    assert lines[1].startswith("    added by @4 message_added (")
    place = lines.index("- user: 再往后呢?")
    assert "removed by @11 rolled_back" in lines[place + 2]
    found = json.loads(ok("why", "支", "--json", "--db", db))
    assert [one["in_view"] for one in found] == [True] * 4
    assert found[0]["message"]["content"] == QUESTIONS[0]


def test_a_question_that_failed_never_joined(db: str) -> None:
    invoke("chat", "-c", "数数", "--base-url", "http://127.0.0.1:1/v1", "--key", "k" * 20, "x", "--db", db)
    assert "? user: x" in ok("why", "数数", "--db", db)


def test_what_a_redaction_took_is_in_the_log_without_its_text(db: str) -> None:
    ok("redact", "数数", "0", "--yes", "--db", db)
    log = [json.loads(line) for line in ok("log", "数数", "--json", "--db", db).splitlines()]
    assert log[2]["data"]["message"]["content"] == "[redacted]"


@contextmanager
def _watching(*args: str) -> Generator[IO[str], None, None]:
    """What the command prints while it runs; Ctrl-C ends it."""
    watching = subprocess.Popen(
        [*COMMAND, *args],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    guard = threading.Timer(TIMEOUT, watching.kill)
    guard.start()
    assert watching.stdout is not None
    try:
        yield watching.stdout
        watching.send_signal(2)
        assert watching.wait(TIMEOUT) == 130
    finally:
        guard.cancel()
        watching.kill()
        watching.communicate()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_follow_tells_what_others_append(db: str, more: list[str]) -> None:
    assert "@3" in refused("log", "数数@3", "-f", "--db", db)
    with _watching("log", "数数", "-f", "-n", "1", "--db", db, *more) as told:
        lines = [told.readline() for _line in range(1 if more else 3)]
        assert "53" in "".join(lines)
        with Engine(db) as engine:
            engine.open("数数").rollback(2)
            engine.open("支").rollback(1)
        lines = [told.readline() for _line in range(1 if more else 5)]
        if more:
            assert json.loads(lines[0])["type"] == "rolled_back"
        else:
            assert "rolled back 2 rounds" in lines[0]
            assert "- user: 再往后是几?" in lines[1]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_follow_of_all_conversations(db: str, more: list[str]) -> None:
    for wrong in (["--all"], ["-fa", "数数"], ["-fa", "-n", "1"], ["-fa", "--graph"]):
        assert "--follow" in refused("log", *wrong, "--db", db, status=2)
    with Engine(db) as engine, _watching("log", "-f", "--all", "--db", db, *more) as told:
        other = _wait_until_told(engine, told)
        engine.open("支").rollback(1)
        new = engine.create("新")
        new.add([user_msg("一")])
        lines = (told.readline().rstrip("\n") for _ in iter(int, 1))
        if more:
            found = (json.loads(line) for line in lines)
            happened = ((one["conversation"], one["type"]) for one in found if one["conversation"] != other)
            assert list(islice(happened, 3)) == [
                (engine.open("支").id, "rolled_back"),
                (new.id, "created"),
                (new.id, "message_added"),
            ]
        else:
            assert list(islice(dropwhile(lambda line: line != "支", lines), 2))[1].endswith(
                "rolled back 1 round"
            )
            assert list(islice(dropwhile(lambda line: line != "新", lines), 3))[2].endswith(
                "user: 一 (added)"
            )


def _wait_until_told(engine: Engine, told: IO[str]) -> str:
    """Let something happen over and over, until it is told; the conversation in which it did."""
    listener = threading.Thread(target=told.readline)
    listener.start()
    other = engine.create("anything")
    while listener.is_alive():
        other.set_role("somebody", "something")
        listener.join(0.2)
    return other.id
