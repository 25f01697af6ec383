"""`export` and `import`: conversations as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.cli import Terminal, contents, invoke, ok, refused, run, shown


def test_archive_restores_the_same_conversations(forked_db: str, tmp_path: Path) -> None:
    db, file, other = forked_db, str(tmp_path / "all.jsonl"), str(tmp_path / "other.db")
    result = invoke("export", "--all", "-o", file, "--db", db)
    assert result.exit_code == 0 and result.stdout == ""
    assert "of 2 conversations to" in result.stderr
    assert ok("export", "--all", "--db", db) == Path(file).read_text("utf-8")
    lines = ok("import", file, "--db", other).splitlines()
    assert [line.split("  ")[1].split(":")[0] for line in lines] == ["数数", "支"]
    heads = [sorted(ok("head", "--all", "--db", path).splitlines()) for path in (db, other)]
    assert heads[0] == heads[1] != [] and ok("verify", "--db", other) == ""
    assert ok("export", "--all", "--db", other) == Path(file).read_text("utf-8")
    assert ok("import", file, "--db", other).count("existed already") == 2


def test_export_onto_the_database_is_refused(forked_db: str) -> None:
    db = forked_db
    before = Path(db).read_bytes()
    for format_ in ("events", "messages", "markdown", "html"):
        assert "belongs to a database" in refused("export", "数数", "-f", format_, "-o", db, "--db", db)
    assert "is a database, not an archive" in refused("import", db, "--db", db)
    assert Path(db).read_bytes() == before


def test_archive_of_a_fork_includes_its_parent(forked_db: str) -> None:
    result = invoke("export", "支", "--db", forked_db)
    assert json.loads(result.stdout.splitlines()[0])["conversations"] == 2
    assert "included 1 more conversation" in result.stderr


def test_archive_goes_through_a_pipe(forked_db: str, tmp_path: Path) -> None:
    archive = run("export", "--all", "--db", forked_db)
    other = str(tmp_path / "other.db")
    imported = run("import", "-", "--json", "--db", other, input=archive.stdout)
    assert imported.returncode == 0, imported.stderr
    assert [arrived["state"] for arrived in json.loads(imported.stdout)["conversations"]] == ["new", "new"]
    assert shown(other, "数数") == shown(forked_db, "数数")


@pytest.mark.parametrize("ending", ["json", "md"])
def test_messages_and_markdown_can_be_imported(db: str, tmp_path: Path, ending: str) -> None:
    file, other = str(tmp_path / f"talk.{ending}"), str(tmp_path / "other.db")
    ok("export", "数数@4", "-o", file, "--db", db)
    (line,) = ok("import", file, "--db", other).splitlines()
    assert shown(other, line.split()[0]) == shown(db, "数数@4")


def test_messages_and_markdown_go_to_standard_output(db: str) -> None:
    assert contents(json.loads(ok("export", "数数", "--format", "messages", "--db", db))) == shown(db, "数数")
    assert "## user\n\n自然数50的后面是几?" in ok("export", "数数", "-f", "markdown", "--db", db)


def test_html_page_includes_related_forks(forked_db: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert "of 2 conversations to" in invoke("export", "支", "-o", str(page), "--db", forked_db).stderr
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>") and "自然数50" in text
    assert ok("export", "支", "--format", "html", "--db", forked_db) == text


def test_impossible_export_is_refused(forked_db: str, tmp_path: Path) -> None:
    db = forked_db
    assert "one conversation" in refused("export", "数数", "支", "-f", "markdown", "--db", db)
    assert "--all" in refused("export", "数数", "--all", "--db", db, status=2)
    assert "without @2" in refused("export", "数数@2", "--db", db)
    assert "cannot be written" in refused("export", "数数", "-o", str(tmp_path / "no" / "x"), "--db", db)
    with Terminal("export", "数数", "--db", db) as terminal:
        terminal.shows("-o FILE")
        assert terminal.ends() == 1


def test_invalid_import_changes_nothing(db: str, tmp_path: Path) -> None:
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
