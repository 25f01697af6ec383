"""verify: an undamaged store is ok, heads are found, and the check can be watched and interrupted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from openai2 import BadInput, Engine, user_msg
from openai2.store.audit_reader import Scan
from tests.support.problems import found_problems, places
from tests.support.stores import busy, long, plain


def test_verify_of_an_undamaged_store_is_ok(engine: Engine) -> None:
    busy(engine)
    report = engine.verify()
    assert report.ok and not report.problems
    assert report.conversations == 6
    assert report.events == len(list(engine.store.reading().__enter__().every_event()))


def test_verify_of_empty_and_memory_stores_is_ok(engine: Engine) -> None:
    assert engine.verify().ok
    with Engine() as memory:
        busy(memory)
        assert memory.verify(heads=memory.heads()).ok


def test_list_that_lags_behind_is_no_problem(engine: Engine) -> None:
    conversation = engine.create("a")
    engine.conversations()
    conversation.add([user_msg("later")])
    engine.create("b")
    assert engine.verify().ok


def test_problems_of_events_come_first(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("1"), user_msg("2")])
    with plain(path, unguarded=True) as sql:
        sql.execute("UPDATE events SET data = replace(data, '1', '3') WHERE version = 2")
    problems = engine.verify().problems
    assert (problems[0].conversation, problems[0].version, problems[0].position) == (conversation.id, 2, 2)
    assert any("which guards the log" in problem.what for problem in problems[1:])


@pytest.mark.parametrize("is_sound", [True, False])
def test_progress_grows_to_the_total(engine: Engine, path: Path, is_sound: bool) -> None:
    long(engine, size=10_000)
    if not is_sound:
        with plain(path, unguarded=True) as sql:
            sql.execute("UPDATE events SET data = replace(data, '7', '8') WHERE version = 9001")
    calls: list[tuple[int, int]] = []
    assert engine.verify(progress=lambda done, total: calls.append((done, total))).ok == is_sound
    assert calls == sorted(calls) and len(calls) > 3
    assert calls[-1][0] == calls[-1][1]


def test_events_appended_meanwhile_are_not_checked(engine: Engine, path: Path) -> None:
    events = long(engine).version
    with Engine(path, synchronous="NORMAL") as other:
        report = engine.verify(progress=lambda done, total: _append(other, "meanwhile"))
    assert report.ok and report.events == events
    assert engine.verify().events > events


def _append(engine: Engine, text: str) -> None:
    engine.open("long").add([user_msg(text)])


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_verify_works_in_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    with Engine(folder / "store.db") as engine:
        busy(engine)
    with plain(folder / "store.db") as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for file in folder.iterdir():
        file.chmod(0o400)
    folder.chmod(0o500)
    try:
        with Engine(folder / "store.db") as engine:
            assert engine.verify().ok
    finally:
        folder.chmod(0o700)


def test_error_in_the_sqlite_check_is_raised(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(engine)

    def fail(self: Scan) -> Iterator[str]:
        raise MemoryError

    monkeypatch.setattr(Scan, "damage", fail)
    with pytest.raises(MemoryError):
        engine.verify()


def test_interrupted_verify_stops_its_thread(engine: Engine, path: Path) -> None:
    busy(engine)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.verify(progress=stop)
    assert not any(thread.name == "openai2-sqlite-check" for thread in threading.enumerate())
    assert engine.verify().ok
    engine.close()


def test_heads_kept_elsewhere_are_found(engine: Engine) -> None:
    busy(engine)
    heads = engine.heads()
    assert engine.verify(heads=heads).ok
    assert engine.verify(heads=heads.values()).ok
    engine.open("main").add([user_msg("on")])
    assert engine.verify(heads=heads).ok, "a stream may have gone on"


def test_cut_tail_is_found_by_its_head(engine: Engine, path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("1"), user_msg("2")])
    heads = engine.heads()
    with plain(path, unguarded=True) as sql:
        sql.execute("DELETE FROM events WHERE position = (SELECT max(position) FROM events)")
    assert not found_problems(engine)
    problems = [p for p in engine.verify(heads=heads).problems if "tail was cut" in p.what]
    assert [p.conversation for p in problems] == [conversation.id]
    assert any("tail was cut" in p.what for p in engine.verify(heads=heads.values()).problems)


def test_head_of_another_conversation_is_a_problem(engine: Engine) -> None:
    engine.create("a")
    b = engine.create("b")
    mixed = {b.id: engine.open("a").head}
    assert places(engine.verify(heads=mixed).problems) == {(b.id, None)}


@pytest.mark.parametrize("head", ["", "xyz", "ab" * 31, "ab" * 33, "ä" * 64])
def test_invalid_head_is_refused(engine: Engine, head: str) -> None:
    with pytest.raises(BadInput, match="invalid head"):
        engine.verify(heads=[head])
