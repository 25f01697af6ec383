"""docs/format.md agrees with the code, and its verifier works on real stores."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from openai2 import Engine
from openai2.store import reader, schema
from tests.support.stores import busy, plain

_PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")


@pytest.fixture
def verifier(tmp_path: Path) -> Path:
    (code,) = re.findall(r"```python\n(.*?)```", _PAGE, re.DOTALL)
    assert len(code.strip().splitlines()) <= 40
    path = tmp_path / "verifier.py"
    path.write_text(code, "utf-8")
    return path


def _run(verifier: Path, store: Path) -> subprocess.CompletedProcess[str]:
    # -I: nothing of ours is within its reach.
    command = [sys.executable, "-I", "-S", str(verifier), str(store)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_documented_verifier_accepts_a_sound_store(verifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Engine(path) as engine:
        busy(engine)
        heads = engine.heads()
        done = _run(verifier, path)
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == heads


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE events SET data = replace(data, 'one', 'eno')",
        "UPDATE events SET time = replace(time, '2', '3') WHERE position = 5",
        "UPDATE events SET batch = 1 WHERE position = 5",
        "UPDATE events SET hash = zeroblob(32) WHERE position = 7",
        "UPDATE events SET data = '' WHERE position = 4",
        "DELETE FROM events WHERE position = 6",
    ],
)
def test_documented_verifier_finds_damage(verifier: Path, tmp_path: Path, harm: str) -> None:
    path = tmp_path / "store.db"
    with Engine(path) as engine:
        busy(engine)
    with plain(path, unguarded=True) as sql:
        sql.execute(harm)
    done = _run(verifier, path)
    assert done.returncode == 1
    assert done.stderr.startswith("position ") and "Traceback" not in done.stderr


def test_documented_table_is_the_one_in_the_schema() -> None:
    shown = re.search(r"    CREATE TABLE events.*?\);", _PAGE, re.DOTALL)
    assert shown
    assert shown[0].split() == schema.EVENTS.split()


def test_documented_numbers_are_those_of_the_code() -> None:
    assert f"0x{schema.APPLICATION_ID:X}" in _PAGE
    assert f"the version of the format, {schema.SCHEMA_VERSION} today" in _PAGE
    tag = reader.TAG.decode()[:-1]
    assert f"`{tag}` NUL" in _PAGE and len(reader.TAG) == 16
    for table in schema.DERIVED:
        assert f"| `{table}`" in _PAGE, table
