"""`verify` with heads that were kept elsewhere, and `rebuild`."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from tests.support.cli import invoke, ok, refused, shown


def test_verify_reports_counts(db: str) -> None:
    report = json.loads(ok("verify", "--json", "--db", db))
    assert report == {"ok": True, "conversations": 1, "events": 10, "problems": []}
    assert "10 events in 1 conversation" in invoke("verify", "--db", db).stderr


def test_verify_compares_with_a_file_of_heads(db: str, tmp_path: Path) -> None:
    heads = tmp_path / "heads"
    heads.write_text(ok("head", "--all", "--db", db), encoding="utf-8")
    assert json.loads(ok("verify", "--json", "--db", db, "--heads", str(heads)))["ok"]
    heads.write_text(f"{heads.read_text('utf-8').split()[0]} 11 {'00' * 32}\n", encoding="utf-8")
    assert "1 problem was found" in refused("verify", "--db", db, "--heads", str(heads))
    heads.write_text("rubbish\n", encoding="utf-8")
    assert "line 1" in refused("verify", "--db", db, "--heads", str(heads))


def test_verify_finds_a_cut_tail_by_its_head(db: str) -> None:
    head = ok("head", "数数", "--db", db).split()[2]
    ok("verify", "--head", head, "--db", db)
    assert "head x" in refused("verify", "--head", "x", "--db", db)
    _delete_last_event(db)
    result = invoke("verify", "--head", head, "--db", db)
    assert result.exit_code == 1 and head in result.output


def _delete_last_event(db: str) -> None:
    """Delete the last event, with the triggers dropped, as an attacker with access to the file could."""
    with sqlite3.connect(db) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f'DROP TRIGGER "{name}"')
        raw.execute("DELETE FROM events WHERE position = (SELECT max(position) FROM events)")
    raw.close()


def test_rebuild_keeps_the_messages(db: str) -> None:
    before = shown(db)
    ok("rebuild", "--db", db)
    assert shown(db) == before
