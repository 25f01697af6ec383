"""`rollback`, `undo`, `redo`, `restore`, `pin`, `unpin`."""

from __future__ import annotations

from tests.support.cli import invoke, ok, refused


def test_rollback_undo_redo_and_restore_print_the_last_round(db: str) -> None:
    assert ok("rollback", "--db", db) == "[user]:再往后是几? [assistant]:52\n"
    assert ok("undo", "--db", db) == "[user]:再往后呢? [assistant]:53\n"
    assert ok("redo", "--db", db) == "[user]:再往后是几? [assistant]:52\n"
    assert ok("restore", "@4", "--db", db) == "[user]:自然数50的后面是几? [assistant]:51\n"
    assert ok("rollback", "9", "--db", db) == ""
    assert ok("undo", "3", "--db", db, "-c", "数数") == "[user]:再往后呢? [assistant]:53\n"
    assert ok("redo", "3", "--db", db) == ""
    assert "nothing to redo" in refused("redo", "--db", db)


def test_edit_commands_refuse_bad_arguments(db: str) -> None:
    assert "1 or more" in refused("rollback", "0", "--db", db)
    assert "give a version" in refused("restore", "数数", "--db", db)
    assert "@3" in refused("rollback", "-c", "数数@3", "--db", db)


def test_pins_take_positive_and_negative_indexes(db: str) -> None:
    assert "0, 4, 5" in invoke("pin", "0", "-2", "-1", "--db", db).stderr
    assert "pinned now: 4" in invoke("--db", db, "unpin", "-1", "0").stderr
    pinned = [line for line in ok("show", "--db", db).splitlines() if "(pinned)" in line]
    assert pinned == ["[4] user (pinned)"]
    assert "from -6 to 5" in refused("pin", "6", "--db", db)
    refused("pin", "--nosuch", "--db", db, status=2)
    refused("pin", "--db", db, status=2)
