"""A file that is named appears whole or not at all, and what killed writers leave is cleared away."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from openai2 import BadInput
from openai2.archive.atomic_file import written


def _parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))


_WRITER = """
import sys
from openai2.archive.atomic_file import written
with written(sys.argv[1]) as out:
    out.write(b"half")
    out.flush()
    print("writing", flush=True)
    sys.stdin.readline()
    out.write(b" and half")
"""


def _writer(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def test_it_appears_when_all_of_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(b"old")
    with written(path) as out:
        out.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and not _parts(tmp_path)
    with pytest.raises(ZeroDivisionError), written(path) as out:
        out.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"new" and not _parts(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="an hour has to go by there")
def test_what_a_killed_writer_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "it"
    with _writer(path) as killed:
        killed.kill()
    assert len(_parts(tmp_path)) == 1
    with written(tmp_path / "other") as out:
        out.write(b"x")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["other"]


def test_a_living_writer_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "it"
    living = _writer(path)
    for _ in range(3):
        with written(tmp_path / "other") as out:
            out.write(b"x")
    assert len(_parts(tmp_path)) == 1
    living.communicate("\n")
    assert living.returncode == 0 and path.read_bytes() == b"half and half" and not _parts(tmp_path)


def test_what_only_looks_like_ours_stays(tmp_path: Path) -> None:
    for name in (".openai2-x", "x.part", "openai2-x.part"):
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / ".openai2-folder.part").mkdir()
    with written(tmp_path / "it") as out:
        out.write(b"x")
    assert len(list(tmp_path.iterdir())) == 5


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for number in range(30):
                with written(tmp_path / name) as out:
                    out.write(f"{name} {number}".encode())
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(f"{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        str(number): f"{number} 29" for number in range(6)
    }


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such files")
def test_what_is_no_plain_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe, link, real = tmp_path / "pipe", tmp_path / "link", tmp_path / "real"
    os.mkfifo(pipe)
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(pipe.read_bytes()))
    reader.start()
    with written(pipe) as out:
        out.write(b"through")
    reader.join()
    assert said == [b"through"] and pipe.is_fifo()
    real.write_bytes(b"old")
    link.symlink_to(real)
    with written(link) as out:
        out.write(b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"


def test_a_folder_or_no_folder_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "it"):
        with pytest.raises(BadInput, match="cannot be written"), written(path) as out:
            out.write(b"x")
