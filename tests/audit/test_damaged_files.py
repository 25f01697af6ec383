"""Damaged files: verify finds every change of the events, and never crashes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from openai2 import Engine, StoreError, user_msg
from tests.support.stores import busy, plain


def _write_flipped(whole: bytes, path: Path, place: int, bit: int) -> None:
    path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])


def _small_store_bytes(path: Path) -> bytes:
    with Engine(path) as engine:
        busy(engine)
    with plain(path) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sql.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


def _all_events(path: Path) -> list[tuple[object, ...]]:
    with plain(path) as sql:
        sql.text_factory = bytes
        return sql.execute("SELECT * FROM events ORDER BY position").fetchall()


def _try_flips(tmp_path: Path, tries: int, seed: int) -> None:
    """A byte of the file is flipped: what verify calls sound holds the same events, and nothing crashes."""
    path = tmp_path / "whole.db"
    whole = _small_store_bytes(path)
    truth = _all_events(path)
    chance = random.Random(seed)
    found = 0
    for number in range(tries):
        path = tmp_path / f"flipped{number % 2}.db"
        for old in tmp_path.glob("flipped*"):
            old.unlink()
        place = chance.randrange(len(whole)) if number % 4 else chance.randrange(100)
        _write_flipped(whole, path, place, 1 << chance.randrange(8))
        try:
            with Engine(path) as engine:
                report = engine.verify()
        except StoreError:
            found += 1
            continue
        if report.ok:
            assert _all_events(path) == truth, place
        else:
            found += 1
    assert found > tries / 10


def test_flipped_bytes_of_the_file_are_found(tmp_path: Path) -> None:
    _try_flips(tmp_path, 250, 1)


@pytest.mark.torture
def test_many_flipped_bytes_of_the_file_are_found(tmp_path: Path) -> None:
    _try_flips(tmp_path, 8000, 2)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_truncated_file_is_damaged(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "whole.db"
    whole = _small_store_bytes(path)
    path.write_bytes(whole[: int(len(whole) * keep)])
    try:
        with Engine(path) as engine:
            found = [problem.what for problem in engine.verify().problems]
    except StoreError as error:
        found = [str(error)]
    assert any("damaged" in what or "cannot be used" in what for what in found), found


def test_schema_without_numbered_rows_is_named(tmp_path: Path) -> None:
    """One flipped bit in the text of the schema makes the positions columns of nulls."""
    path = tmp_path / "store.db"
    with Engine(path) as engine:
        engine.create("x").add([user_msg("hello")])
    whole = path.read_bytes()
    assert b"PRIMARY KEY CHECK" in whole
    path.write_bytes(whole.replace(b"PRIMARY KEY CHECK", b"PRIMARY0KEY CHECK"))
    with Engine(path) as engine:
        report = engine.verify()
        assert not report.ok and any("number its rows" in problem.what for problem in report.problems)
