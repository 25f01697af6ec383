"""`redact`, `delete`, `scrub`: content removed for good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openai2 import Engine
from openai2.history import drafts
from tests.support.cli import Terminal, invoke, logged, ok, refused, run, shown


def _is_in_file(text: str, db: str) -> bool:
    return text.encode() in Path(db).read_bytes()


def test_redact_removes_the_text_and_keeps_the_proof(forked_db: str) -> None:
    db = forked_db
    before = shown(db, "数数")
    assert "--yes" in refused("redact", "数数", "0", "--db", db)
    assert shown(db, "数数") == before
    result = invoke("redact", "数数", "0", "--yes", "--reason", "a secret", "--db", db)
    assert result.exit_code == 0, result.output
    assert "自然数50" in result.stderr and "SHA-256" in result.stderr and "支" in result.stderr
    assert shown(db, "数数")[0] == shown(db, "支")[0] == "[redacted]"
    assert not _is_in_file("自然数50", db)
    assert ok("verify", "--db", db) == ""
    assert "a secret" in ok("log", "数数", "--db", db)
    assert logged(db, "数数")[2]["data"]["message"]["content"] == "[redacted]"


def test_redact_takes_a_version_or_negative_index(forked_db: str) -> None:
    db = forked_db
    (answer,) = [event["version"] for event in logged(db, "数数") if '"51"' in json.dumps(event["data"])]
    ok("redact", "数数", f"@{answer}", "--yes", "--db", db)
    ok("redact", "数数", "-1", "--yes", "--db", db)
    assert shown(db, "数数")[1::4] == ["[redacted]", "[redacted]"]


@pytest.mark.parametrize("message", ["17", "-7", "x", "@99"])
def test_redact_refuses_an_unknown_message(db: str, message: str) -> None:
    refused("redact", "数数", message, "--yes", "--db", db)


@pytest.mark.parametrize(("name", "event"), [("数数", "created"), ("支", "forked")])
def test_redact_removes_the_name_in_an_event(forked_db: str, name: str, event: str) -> None:
    result = invoke("redact", name, "@1", "--yes", "--db", forked_db)
    assert result.exit_code == 0 and f"{event}: {name}" in result.stderr
    names = {line["name"] for line in json.loads(ok("list", "--json", "--db", forked_db))}
    assert names == {None, "数数", "支"} - {name}


def test_redact_lists_other_copies(db: str) -> None:
    with Engine(db) as engine:
        other = engine.create("elsewhere")
        other.add([{"role": "user", "content": "自然数50"}, {"role": "user", "content": "> 自然数50!"}])
        engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(other.id, 9)))
        result = invoke("redact", "elsewhere", "0", "--yes", "--db", db)
    assert result.exit_code == 0 and "elsewhere@3" in result.stdout.split()
    assert "redact them if needed" in result.stderr and "in progress in elsewhere" in result.stderr


def test_delete_removes_a_conversation_without_forks(forked_db: str) -> None:
    db = forked_db
    assert "支 forked from it" in refused("delete", "数数", "--yes", "--db", db)
    assert "--yes" in refused("delete", "支", "--db", db)
    ok("delete", "支", "--yes", "--db", db)
    ok("delete", "数数", "-y", "--db", db)
    assert json.loads(ok("list", "--all", "--json", "--db", db)) == []
    assert "there is no conversation" in refused("show", "数数", "--db", db)
    assert ok("verify", "--db", db) == ""
    assert not _is_in_file("自然数50", db)


def test_removal_asks_for_confirmation_on_a_terminal(forked_db: str) -> None:
    with Terminal("delete", "支", "--db", forked_db, columns=100) as terminal:
        terminal.shows("Continue?").types("n\r").shows("nothing was removed")
        assert terminal.ends() == 1
    with Terminal("redact", "数数", "0", "--db", forked_db, columns=100) as terminal:
        terminal.shows("user: 自然数50").shows("Continue?").types("y\r")
        assert terminal.ends() == 0
    assert shown(forked_db, "数数")[0] == "[redacted]"


def test_redact_with_another_reader_tells_to_scrub(db: str) -> None:
    with Engine(db) as engine, engine.store.reading(snapshot=True) as reader:
        reader.last_position()
        done = run("redact", "数数", "0", "--yes", "--db", db)
        assert done.returncode == 1 and "openai2 scrub" in done.stderr.splitlines()[-1]
    ok("scrub", "--db", db)
    assert not _is_in_file("自然数50", db)
