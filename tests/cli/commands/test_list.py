"""`list`, and the commands that change what it shows: `rename`, `archive`, `fork`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from tests.support.cli import logged, ok, refused, shown
from tests.support.stores import plain


def test_list_shows_id_name_version_messages_and_time(db: str) -> None:
    (line,) = json.loads(ok("list", "--json", "--db", db))
    assert list(line) == ["id", "name", "version", "messages", "updated"]
    assert (line["name"], line["messages"]) == ("数数", 6)
    assert datetime.fromisoformat(line["updated"].replace("Z", "+00:00"))
    assert f"* {line['id'][:8]}     6" in ok("list", "--db", db)


def test_list_leaves_out_archived_conversations(db: str) -> None:
    ok("archive", "数数", "--db", db)
    assert json.loads(ok("list", "--json", "--db", db)) == []
    assert "(archived)" in ok("list", "--all", "--db", db)
    ok("unarchive", "数数", "--db", db)
    assert len(json.loads(ok("list", "--json", "--db", db))) == 1


def test_rename_changes_the_name_in_the_list(db: str) -> None:
    ok("rename", "数数", "数字", "--db", db)
    assert json.loads(ok("list", "--json", "--db", db))[0]["name"] == "数字"


def test_damaged_cursor_of_the_list_is_repaired(db: str) -> None:
    before = ok("list", "--db", db)
    for forged in ("nothing", b"\xff"):
        with plain(Path(db)) as sql:
            sql.execute("UPDATE cursors SET position = ? WHERE name = 'conversations'", (forged,))
        assert ok("list", "--db", db) == before


def test_fork_continues_from_a_version(db: str) -> None:
    assert ok("fork", "@4", "--name", "岔路", "--db", db) == "岔路\n"
    assert shown(db, "岔路") == ["自然数50的后面是几?", "51"]
    assert logged(db, "岔路")[0]["type"] == "forked"
    assert "forked from 数数@4" in ok("log", "岔路", "--db", db)
    assert "岔路 (from 数数@4)" in ok("list", "--db", db)
    assert "岔路" in refused("fork", "--name", "岔路", "--db", db)
    unnamed = ok("fork", "岔路", "--db", db).strip()
    assert shown(db, unnamed) == shown(db, "岔路")
