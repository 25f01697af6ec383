"""`log` for programs and people, `log --follow`, `log --graph`, and `why`."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import dropwhile, islice
from typing import IO

import pytest

from openai2 import Engine, user_msg
from tests.support.cli import KEY, QUESTIONS, TIMEOUT, invoke, logged, ok, refused, started


def test_json_log_has_the_fields_of_each_event(db: str) -> None:
    lines = logged(db)
    fields = ["conversation", "version", "position", "type", "time", "data", "hash"]
    assert all(list(line) == fields for line in lines)
    assert [line["version"] for line in lines] == list(range(1, 11))
    with Engine(db) as engine:
        events = list(engine.open("数数").events())
    assert [line["hash"] for line in lines] == [event.hash for event in events]
    assert [line["data"] for line in lines] == [event.data for event in events]


def test_log_describes_events_in_order(db: str) -> None:
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


@pytest.mark.parametrize(("last", "count"), [("2", 2), ("0", 0), ("99", 10)])
def test_log_shows_the_last_events_only(db: str, last: str, count: int) -> None:
    assert len(logged(db, "数数", "-n", last)) == count


def test_graph_draws_forks(forked_db: str) -> None:
    assert ok("log", "支", "--graph", "--db", forked_db).splitlines() == [
        "* 数数@10",
        "| * 支@1 (here)",
        "|/",
        "* 数数@7",
    ]
    members = json.loads(ok("log", "数数", "--graph", "--json", "--db", forked_db))
    assert [member["name"] for member in members] == ["数数", "支"]
    refused("log", "--graph", "-f", "--db", forked_db, status=2)


def test_why_names_the_events_that_added_and_removed(forked_db: str) -> None:
    db = forked_db
    ok("rollback", "2", "-c", "数数", "--db", db)
    lines = ok("why", "数数", "--db", db).splitlines()
    assert lines[0] == "+ user: 自然数50的后面是几?"
    assert lines[1].startswith("    added by @4 message_added (")
    place = lines.index("- user: 再往后呢?")
    assert "removed by @11 rolled_back" in lines[place + 2]
    reasons = json.loads(ok("why", "支", "--json", "--db", db))
    assert [reason["in_view"] for reason in reasons] == [True] * 4
    assert reasons[0]["message"]["content"] == QUESTIONS[0]


def test_why_marks_the_question_of_a_failed_request(db: str) -> None:
    invoke("chat", "-c", "数数", "--base-url", "http://127.0.0.1:1/v1", "--key", KEY, "x", "--db", db)
    assert "? user: x" in ok("why", "数数", "--db", db)


@contextmanager
def _running(*args: str) -> Generator[IO[str], None, None]:
    """Run the command and give its standard output; end it with Ctrl-C."""
    with started(*args) as process:
        assert process.stdout is not None
        yield process.stdout
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 130


@pytest.mark.parametrize("as_json", [False, True])
def test_follow_shows_events_of_other_processes(forked_db: str, as_json: bool) -> None:
    db = forked_db
    assert "@3" in refused("log", "数数@3", "-f", "--db", db)
    with _running("log", "数数", "-f", "-n", "1", "--db", db, *["--json"] * as_json) as output:
        lines = [output.readline() for _line in range(1 if as_json else 3)]
        assert "53" in "".join(lines)
        with Engine(db) as engine:
            engine.open("数数").rollback(2)
            engine.open("支").rollback(1)
        lines = [output.readline() for _line in range(1 if as_json else 5)]
        if as_json:
            assert json.loads(lines[0])["type"] == "rolled_back"
        else:
            assert "rolled back 2 rounds" in lines[0]
            assert "- user: 再往后是几?" in lines[1]


@pytest.mark.parametrize("args", ["--all", "-fa 数数", "-fa -n 1", "-fa --graph"])
def test_follow_all_refuses_other_options(db: str, args: str) -> None:
    assert "--follow" in refused("log", *args.split(), "--db", db, status=2)


@pytest.mark.parametrize("as_json", [False, True])
def test_follow_all_shows_every_conversation(forked_db: str, as_json: bool) -> None:
    with (
        Engine(forked_db) as engine,
        _running("log", "-f", "--all", "--db", forked_db, *["--json"] * as_json) as output,
    ):
        other = _wait_for_output(engine, output)
        engine.open("支").rollback(1)
        new = engine.create("新")
        new.add([user_msg("一")])
        lines = (output.readline().rstrip("\n") for _ in iter(int, 1))
        if as_json:
            events = (json.loads(line) for line in lines)
            types = ((it["conversation"], it["type"]) for it in events if it["conversation"] != other)
            assert list(islice(types, 3)) == [
                (engine.open("支").id, "rolled_back"),
                (new.id, "created"),
                (new.id, "message_added"),
            ]
        else:
            rollback = list(islice(dropwhile(lambda line: line != "支", lines), 2))[1]
            assert rollback.endswith("rolled back 1 round")
            added = list(islice(dropwhile(lambda line: line != "新", lines), 3))[2]
            assert added.endswith("user: 一 (added)")


def _wait_for_output(engine: Engine, output: IO[str]) -> str:
    """Append events until the command prints one; return the conversation that they were appended to."""
    listener = threading.Thread(target=output.readline)
    listener.start()
    other = engine.create("anything")
    while listener.is_alive():
        other.set_role("speaker", "something")
        listener.join(0.2)
    return other.id
