"""atomic_write: a file appears complete or not at all."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from openai2 import BadInput, Chat, Engine, user_msg
from openai2.archive.atomic_file import atomic_write
from openai2.errors import ArchiveError
from openai2.recording import format as recording_format
from tests.support.stores import python


def test_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as out:
        out.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as out:
        out.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
def test_new_file_is_private_and_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for mode in (0o600, 0o640):
        with atomic_write(path) as out:
            out.write(b"x")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(0o640)


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for number in range(30):
                with atomic_write(tmp_path / name) as out:
                    out.write(f"{name} {number}".encode())
        except BaseException as error:  # noqa: BLE001 - asserted below
            errors.append(error)

    threads = [threading.Thread(target=write, args=(f"{number % 3}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        str(number): f"{number} 29" for number in range(3)
    }


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_pipe_is_written_to_and_link_is_followed(tmp_path: Path) -> None:
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    with atomic_write(pipe) as out:
        out.write(b"through")
    reader.join()
    assert received == [b"through"] and pipe.is_fifo()
    target.write_bytes(b"old")
    link.symlink_to(target)
    with atomic_write(link) as out:
        out.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_folder_or_missing_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "file"):
        with pytest.raises(BadInput, match="cannot be written"), atomic_write(path) as out:
            out.write(b"x")


def _names(path: Path) -> list[Path]:
    """The names under which the files of the store at *path* can be written to."""
    log, index = path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")
    names = [path, log, index, path.with_name(f"{path.name}-journal")]
    for file in (path, log, index):
        hard, symbolic = file.with_name(f"hard{file.name}"), file.with_name(f"symbolic{file.name}")
        os.link(file, hard)
        symbolic.symlink_to(file)
        names += [hard, symbolic]
    return [*names, path.parent / "none" / ".." / path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="links are POSIX's")
def test_output_onto_a_store_is_refused(tmp_path: Path) -> None:
    """By each name of each of its files, for each output of a program; the store is used as before."""
    path = tmp_path / "chats.db"
    (tmp_path / "none").mkdir()
    with Engine(path) as engine, Chat("sk-test", db=engine, conversation="c") as chat:
        chat.add_dialogs(user_msg("hello"))
        for name in _names(path):
            for format_ in ("events", "messages", "markdown", "html"):
                with pytest.raises(BadInput, match="belongs to a database"):
                    engine.export(["c"], file=name, format=format_)
            with pytest.raises(BadInput, match="belongs to a database"):
                chat.dump(name)
            with pytest.raises(BadInput, match="belongs to a database"):
                recording_format.write(name, [])
        with open(path, "ab") as file, pytest.raises(BadInput, match="belongs to a database"):
            engine.export(file=file)
        with pytest.raises(ArchiveError, match="is a database, not an archive"):
            engine.import_(path)
        chat.add_dialogs(user_msg("more"))
        assert engine.verify().ok
    with Engine(path) as engine:
        assert len(engine.open("c").messages()) == 2
        with pytest.raises(BadInput, match="belongs to a database"):
            Engine().export(file=path)


@pytest.mark.skipif(sys.platform == "win32", reason="the locks are POSIX's")
def test_refusal_leaves_the_locks_of_an_open_store(tmp_path: Path) -> None:
    """Another process that closes the store does not take it for the last one, and leaves the log alone."""
    path = tmp_path / "chats.db"
    with Engine(path) as engine:
        conversation = engine.create("c")
        with pytest.raises(BadInput):
            engine.export(file=path)
        other = python("import sys; from openai2 import Engine; Engine(sys.argv[1]).close()", path)
        other.communicate()
        assert other.returncode == 0
        conversation.add([user_msg("hello")])
    with Engine(path) as engine:
        assert len(engine.open("c").messages()) == 1
