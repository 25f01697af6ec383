"""Fixtures of all tests, and the profiles of Hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from openai2 import Engine
from openai2.offline import OfflineServer

# No deadline, since machines differ. Runs are random and print how to repeat a failure. With `CI` set they
# are not random: an unchanged tree must not fail later. `--hypothesis-profile=thorough` runs 20x as many.
_OURS = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.register_profile("openai2", _OURS, max_examples=50)
settings.register_profile("thorough", _OURS, max_examples=1000)
settings.load_profile("openai2")

# The command chooses its language when it is imported, before any fixture runs.
os.environ["OPENAI2_LANG"] = "en"

# Variables of a developer's shell that would change results, or reach another server.
_FOREIGN = ("OPENAI_", "OPENAI2_", "LC_", "XDG_")
_FOREIGN_NAMES = {"LANGUAGE", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty home folder outside `tmp_path`, without keys, settings or proxies.

    OPENAI2_HOME names a folder that does not exist yet.
    """
    for name in list(os.environ):
        upper = name.upper()
        if upper.startswith(_FOREIGN) or upper in _FOREIGN_NAMES or upper.endswith("_PROXY"):
            monkeypatch.delenv(name)
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("OPENAI2_HOME", str(folder / "openai2"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / ".config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / ".local" / "share"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / ".local" / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / ".cache"))
    return folder


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OfflineServer]:
    """Run a loopback server; the environment names it and a key."""
    from tests.support.cli import KEY

    with OfflineServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield server


@pytest.fixture(scope="module")
def offline() -> Iterator[OfflineServer]:
    """Run a loopback server that the environment does not name."""
    with OfflineServer() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the database that `engine` opens."""
    return tmp_path / "store.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    """Open a store in a file, which is not flushed to the disk."""
    with Engine(path, synchronous="OFF") as engine:
        yield engine
