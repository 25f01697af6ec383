"""Databases that several tests of the command use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import counting_database


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A database with a conversation of three rounds and 10 events, named 数数."""
    return counting_database(tmp_path)


@pytest.fixture
def forked_db(tmp_path: Path) -> str:
    """The database of `db`, with a fork of 数数 at version 7, named 支."""
    return counting_database(tmp_path, fork="支")
