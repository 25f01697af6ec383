"""Conversations as files, out and in; what is removed for good; verifying with heads kept elsewhere."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from openai2 import Engine
from openai2.cli.terminal.progress import Line
from openai2.history import drafts
from tests.support.cli import QUESTIONS, Terminal, contents, counting, invoke, ok, refused, run


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A database with a conversation of three rounds, named 数数, and a fork of it, named 支."""
    return counting(tmp_path, fork="支")


def shown(db: str, *args: str) -> list[str]:
    return contents(json.loads(ok("show", "--json", "--db", db, *args)))


# -- out and in


def test_an_archive_gives_the_same_again(db: str, tmp_path: Path) -> None:
    file, other = str(tmp_path / "all.jsonl"), str(tmp_path / "other.db")
    result = invoke("export", "--all", "-o", file, "--db", db)
    assert result.exit_code == 0 and result.stdout == ""
    assert "of 2 conversations to" in result.stderr
    assert ok("export", "--all", "--db", db) == Path(file).read_text("utf-8")
    told = ok("import", file, "--db", other).splitlines()
    assert [line.split("  ")[1].split(":")[0] for line in told] == ["数数", "支"]
    assert ok("head", "--all", "--db", other).split() and ok("verify", "--db", other) == ""
    assert sorted(ok("head", "--all", "--db", other).splitlines()) == sorted(
        ok("head", "--all", "--db", db).splitlines()
    )
    assert ok("export", "--all", "--db", other) == Path(file).read_text("utf-8")
    assert ok("import", file, "--db", other).count("existed already") == 2


def test_a_fork_brings_what_it_descends_from(db: str) -> None:
    result = invoke("export", "支", "--db", db)
    assert json.loads(result.stdout.splitlines()[0])["conversations"] == 2
    assert "included 1 more conversation" in result.stderr


def test_an_archive_through_a_pipe(db: str, tmp_path: Path) -> None:
    archive = run("export", "--all", "--db", db)
    other = str(tmp_path / "other.db")
    taken = run("import", "-", "--json", "--db", other, input=archive.stdout)
    assert taken.returncode == 0, taken.stderr
    assert [one["state"] for one in json.loads(taken.stdout)["conversations"]] == ["new", "new"]
    assert shown(other, "数数") == shown(db, "数数")


@pytest.mark.parametrize("ending", ["json", "md"])
def test_messages_and_markdown_come_in_again(db: str, tmp_path: Path, ending: str) -> None:
    file, other = str(tmp_path / f"talk.{ending}"), str(tmp_path / "other.db")
    ok("export", "数数@4", "-o", file, "--db", db)
    (line,) = ok("import", file, "--db", other).splitlines()
    assert shown(other, line.split()[0]) == shown(db, "数数@4")


def test_messages_and_markdown_on_standard_output(db: str) -> None:
    assert contents(json.loads(ok("export", "数数", "--format", "messages", "--db", db))) == shown(db, "数数")
    assert "## user\n\n自然数50的后面是几?" in ok("export", "数数", "-f", "markdown", "--db", db)


def test_a_page_to_look_at(db: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert "of 2 conversations to" in invoke("export", "支", "-o", str(page), "--db", db).stderr
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>") and "自然数50" in text
    assert ok("export", "支", "--format", "html", "--db", db) == text


def test_exports_that_cannot_be(db: str, tmp_path: Path) -> None:
    assert "one conversation" in refused("export", "数数", "支", "-f", "markdown", "--db", db)
    assert "--all" in refused("export", "数数", "--all", "--db", db, status=2)
    assert "without @2" in refused("export", "数数@2", "--db", db)
    assert "cannot be written" in refused("export", "数数", "-o", str(tmp_path / "no" / "x"), "--db", db)
    with Terminal("export", "数数", "--db", db) as terminal:
        terminal.shows("-o FILE")
        assert terminal.ends() == 1


def test_imports_that_cannot_be(db: str, tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    missing = tmp_path / "made.db"
    assert "No such file" in refused("import", str(file), "--db", str(missing))
    assert not missing.exists()
    before = ok("head", "--all", "--db", db)
    whole = ok("export", "--all", "--db", db).encode()
    for raw in (b"", b"\xff\xfe\0", b"[1]", b"hello", whole[: len(whole) // 2], whole.replace(b"50", b"51")):
        file.write_bytes(raw)
        refused("import", str(file), "--db", db)
        refused("import", "-", "--db", db, input=raw)
    assert ok("head", "--all", "--db", db) == before


# -- removed for good


def test_redact_takes_the_text_and_leaves_the_proof(db: str) -> None:
    shown_before = shown(db, "数数")
    assert "--yes" in refused("redact", "数数", "0", "--db", db)
    assert shown(db, "数数") == shown_before
    result = invoke("redact", "数数", "0", "--yes", "--reason", "a secret", "--db", db)
    assert result.exit_code == 0, result.output
    assert "自然数50" in result.stderr and "SHA-256" in result.stderr and "支" in result.stderr
    assert shown(db, "数数")[0] == shown(db, "支")[0] == "[redacted]"
    assert "自然数50".encode() not in Path(db).read_bytes()
    assert ok("verify", "--db", db) == ""
    assert "a secret" in ok("log", "数数", "--db", db)


def test_redact_by_version_and_from_the_end(db: str) -> None:
    log = [json.loads(line) for line in ok("log", "数数", "--json", "--db", db).splitlines()]
    (answer,) = [entry["version"] for entry in log if '"51"' in json.dumps(entry["data"])]
    ok("redact", "数数", f"@{answer}", "--yes", "--db", db)
    ok("redact", "数数", "-1", "--yes", "--db", db)
    assert shown(db, "数数")[1::4] == ["[redacted]", "[redacted]"]
    for message in ("17", "-7", "x", "@99"):
        refused("redact", "数数", message, "--yes", "--db", db)


def test_what_is_no_message_is_redacted_by_its_version(db: str) -> None:
    result = invoke("redact", "数数", "@1", "--yes", "--db", db)
    assert result.exit_code == 0 and "created: 数数" in result.stderr
    assert {one["name"] for one in json.loads(ok("list", "--json", "--db", db))} == {None, "支"}
    result = invoke("redact", "支", "@1", "--yes", "--db", db)
    assert result.exit_code == 0 and "forked: 支" in result.stderr


def test_redact_names_what_may_still_quote_it(db: str) -> None:
    with Engine(db) as engine:
        other = engine.create("elsewhere")
        other.add([{"role": "user", "content": "自然数50"}, {"role": "user", "content": "> 自然数50!"}])
        engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(other.id, 9)))
        result = invoke("redact", "elsewhere", "0", "--yes", "--db", db)
    assert result.exit_code == 0 and "elsewhere@3" in result.stdout.split()
    assert "redact them if needed" in result.stderr and "in progress in elsewhere" in result.stderr


def test_delete(db: str) -> None:
    assert "支 forked from it" in refused("delete", "数数", "--yes", "--db", db)
    assert "--yes" in refused("delete", "支", "--db", db)
    ok("delete", "支", "--yes", "--db", db)
    ok("delete", "数数", "-y", "--db", db)
    assert json.loads(ok("list", "--all", "--json", "--db", db)) == []
    assert "there is no conversation" in refused("show", "数数", "--db", db)
    assert ok("verify", "--db", db) == ""
    assert "自然数50".encode() not in Path(db).read_bytes()


def test_a_person_is_asked(db: str) -> None:
    with Terminal("delete", "支", "--db", db, columns=100) as terminal:
        terminal.shows("Continue?").types("n\r")
        terminal.shows("nothing was removed")
        assert terminal.ends() == 1
    with Terminal("redact", "数数", "0", "--db", db, columns=100) as terminal:
        terminal.shows("user: 自然数50").shows("Continue?").types("y\r")
        assert terminal.ends() == 0
    assert shown(db, "数数")[0] == "[redacted]"


def test_what_somebody_else_still_reads_is_not_said_to_be_gone(db: str) -> None:
    with Engine(db) as engine, engine.store.reading(snapshot=True) as reader:
        reader.last_position()
        done = run("redact", "数数", "0", "--yes", "--db", db)
        assert done.returncode == 1 and "openai2 scrub" in done.stderr.splitlines()[-1]
    ok("scrub", "--db", db)
    assert "自然数50".encode() not in Path(db).read_bytes()


# -- verify, show


def test_heads_that_were_kept_elsewhere(db: str, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.write_text(ok("head", "--all", "--db", db), "utf-8")
    one = ok("head", "数数", "--db", db).split()[2]
    ok("verify", "--head", one, "--heads", str(heads), "--db", db)
    assert "invalid head" in refused("verify", "--head", "x", "--db", db)
    _cut(db, json.loads(ok("list", "--json", "--db", db)))
    result = invoke("verify", "--head", one, "--db", db)
    assert result.exit_code == 1 and one in result.output


def _cut(db: str, listed: list[dict[str, object]]) -> None:
    """Take the tail of 数数 away, as somebody with a disk editor would."""
    (cut,) = [line for line in listed if line["name"] == "数数"]
    with sqlite3.connect(db) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f'DROP TRIGGER "{name}"')
        raw.execute("DELETE FROM events WHERE conversation = ? AND version = ?", (cut["id"], cut["version"]))
    raw.close()


def test_show_under_another_limit(db: str) -> None:
    ok("pin", "0", "-c", "数数", "--db", db)
    before = ok("head", "数数", "--db", db)
    assert shown(db, "数数", "--max-messages", "3") == [QUESTIONS[0], "再往后呢?", "53"]
    assert shown(db, "数数@4", "--max-messages", "1") == ["51"]
    assert ok("head", "数数", "--db", db) == before


# -- progress


def test_progress_is_drawn_for_a_person_who_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("openai2.cli.terminal.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("openai2.cli.terminal.progress.is_terminal", bool)
    line = Line("verifying")
    line(1, 8)
    assert capsys.readouterr().err == ""
    now[0] = 1.0
    line(2, 8)
    line(3, 8)
    line.clear()
    line.clear()
    assert capsys.readouterr().err == "\rverifying [######..................] 2/8\x1b[K\r\x1b[K"
