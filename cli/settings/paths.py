"""Where things are, and what the environment says.

Rule: the command reads the environment and the user's folders; the engine and `Chat` do not. Each name
is read here, once, and nowhere else.

    OPENAI2_HOME       the folder of everything (default: the platform's own folders)
    OPENAI_API_KEY     a key that comes before the key file
    OPENAI_BASE_URL    another server that speaks the API
    OPENAI2_LANG       the language, before LC_ALL, LC_MESSAGES and LANG (read by `words`)
    OPENAI2_MODEL      the model where neither the conversation nor an option names one
    OPENAI2_DEBUG      show where a defect of openai2 itself came from
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_HOME, _KEY, _URL, _MODEL = "OPENAI2_HOME", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI2_MODEL"


def _folder(kind: str) -> str:
    named = os.environ.get(_HOME)
    if named:
        return os.path.abspath(os.path.expanduser(named))
    import platformdirs  # late: who names a database does without

    give = {
        "config": platformdirs.user_config_dir,
        "data": platformdirs.user_data_dir,
        "state": platformdirs.user_state_dir,
    }[kind]
    return give("openai2", appauthor=False)


def _path(kind: str, name: str) -> Path:
    from pathlib import Path  # late: who only looks into the database does without

    return Path(_folder(kind), name)


def keys() -> Path:
    """The key file."""
    return _path("config", "keys")


def config() -> Path:
    """The file of profiles and of what holds for all chats."""
    return _path("config", "config.json")


def templates() -> Path:
    """The folder of saved templates."""
    return _path("config", "templates")


def database() -> str:
    """The database that is used where `--db` names no other."""
    return os.path.join(_folder("data"), "openai2.db")


def typed() -> Path:
    """What was typed in interactive sessions, for the up arrow."""
    return _path("state", "history")


def make_folder(path: Path) -> None:
    """Make the folder that *path* will lie in; what we make is nobody else's to read."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def environment_key(name: str = _KEY) -> str | None:
    """The key that the environment names."""
    return os.environ.get(name) or None


def base_url() -> str | None:
    """The server that the environment names."""
    return os.environ.get(_URL) or None


def model() -> str | None:
    """The model that the environment names."""
    return os.environ.get(_MODEL) or None


def reach_loopback_directly() -> None:
    """Keep a proxy that the environment names from standing between us and our own machine."""
    for name in ("no_proxy", "NO_PROXY"):
        held = os.environ.get(name)
        os.environ[name] = f"{held},127.0.0.1" if held else "127.0.0.1"


def debugging() -> bool:
    """Whether a defect is to show its traceback."""
    return bool(os.environ.get("OPENAI2_DEBUG"))
