"""A store in a file, for the tests of redaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openai2 import Engine


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    with Engine(path) as engine:
        yield engine
