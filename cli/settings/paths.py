"""Paths of the command's files, and the environment variables that it reads.

Invariants:
- Only the command reads the environment and the user's folders; the engine and `Chat` do not.
- Each variable is read in this module only (OPENAI2_LANG in `terminal.i18n`).

    OPENAI2_HOME       the folder of all files (default: the platform's folders)
    OPENAI_API_KEY     an API key, used before the key file
    OPENAI_BASE_URL    another server that speaks the API
    OPENAI2_LANG       the language, used before LC_ALL, LC_MESSAGES and LANG
    OPENAI2_MODEL      the model if neither the conversation nor an option names one
    OPENAI2_DEBUG      show the traceback of an unexpected error
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def _folder(kind: str) -> str:
    if home := os.environ.get("OPENAI2_HOME"):
        return os.path.abspath(os.path.expanduser(home))
    import platformdirs  # late: not needed if a folder or a database is named

    functions = {
        "config": platformdirs.user_config_dir,
        "data": platformdirs.user_data_dir,
        "state": platformdirs.user_state_dir,
    }
    return functions[kind]("openai2", appauthor=False)


def _path(kind: str, name: str) -> Path:
    from pathlib import Path  # late: not needed to read the database

    return Path(_folder(kind), name)


def keys() -> Path:
    """Return the path of the key file."""
    return _path("config", "keys")


def config() -> Path:
    """Return the path of the config file."""
    return _path("config", "config.json")


def templates() -> Path:
    """Return the folder of saved templates."""
    return _path("config", "templates")


def database() -> str:
    """Return the path of the default database."""
    return os.path.join(_folder("data"), "openai2.db")


def input_history() -> Path:
    """Return the path of the file that keeps the lines typed in interactive sessions."""
    return _path("state", "history")


def make_folder(path: Path) -> None:
    """Create the folder that contains *path*, with access for the user only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def environment_key(name: str = "OPENAI_API_KEY") -> str | None:
    """Return the API key in the environment variable *name*, or None."""
    return os.environ.get(name) or None


def base_url() -> str | None:
    """Return the server that the environment names, or None."""
    return os.environ.get("OPENAI_BASE_URL") or None


def model() -> str | None:
    """Return the model that the environment names, or None."""
    return os.environ.get("OPENAI2_MODEL") or None


def bypass_proxy_for_loopback() -> None:
    """Make HTTP clients of this process connect to 127.0.0.1 directly, without a configured proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = os.environ.get(name)
        os.environ[name] = f"{hosts},127.0.0.1" if hosts else "127.0.0.1"


def is_debugging() -> bool:
    """Return whether an unexpected error shows its traceback."""
    return bool(os.environ.get("OPENAI2_DEBUG"))
