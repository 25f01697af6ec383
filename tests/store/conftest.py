"""Stores in a file and in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from openai2.store import SqliteStore, open_store


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(open_store(tmp_path / "a.db")) as one:
        yield one


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteStore]:
    with contextlib.closing(open_store(tmp_path / "a.db" if request.param == "file" else None)) as one:
        yield one
