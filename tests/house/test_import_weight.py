"""Import weight: which modules a light command may import.

A command that answers from a table does not import the modules that read events. One that reads events does
not import those that write or hash them. None imports an HTTP client or a terminal library.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from openai2.core.messages import assistant_msg, user_msg
from openai2.engine import Engine
from tests.support.cli import environment

#: Modules that take long to import, or that import such modules.
HEAVY = frozenset(
    "openai httpx2 prompt_toolkit rich markdown_it sqlite_utils asyncio platformdirs"
    " msgspec sqlite3 hashlib pathlib shutil urllib base64 queue socket secrets".split()
)

START = "openai2 cli cli.arguments.completions cli.arguments.options cli.terminal.i18n errors"
STORE = (
    f"{START} cli.settings.database cli.settings.paths readmodels.conversations"
    " store store.group_commit store.reader store.registry store.schema store.sqlite store.sqlite_errors"
)
EVENTS = (
    f"{STORE} cli.arguments.refs cli.terminal.text conversation engine handle store.protocol"
    " core.decisions core.events core.ids core.messages core.nesting core.projection core.request_events"
    " core.server_fields core.snapshot core.typeguards"
    " history.drafts history.lineage history.messages history.requests history.stream_cache history.views"
)


class Light(NamedTuple):
    """A command line, our modules that it may import, and the modules of HEAVY that it needs."""

    words: str
    ours: str
    heavy: str = ""
    complete: bool = False


LIGHT = (
    Light("--version", START),
    Light("--help", START, "shutil"),  # click measures the terminal with it
    Light("s", START, complete=True),
    Light("--d", START, complete=True),
    Light("list", f"{STORE} cli.commands.list cli.terminal.text cli.views.conversation_list", "sqlite3"),
    Light(
        "show o", f"{STORE} cli.commands.show cli.arguments.refs cli.terminal.text", "sqlite3", complete=True
    ),
    Light("show one", f"{EVENTS} cli.commands.show cli.views.messages", "sqlite3 msgspec"),
    Light("head one", f"{EVENTS} cli.commands.show", "sqlite3 msgspec"),
    Light("log one", f"{EVENTS} cli.commands.log cli.views.event_text history.why", "sqlite3 msgspec"),
    Light(
        "search fork",
        f"{EVENTS} cli.commands.search cli.views.search_hits readmodels.search"
        " store.fulltext store.scratch_index store.tokenizer",
        "sqlite3 msgspec",
    ),
)

# Modules that `import click` loads are not counted.
_CODE = """
import json, sys, click
before = {*sys.modules}
from openai2.cli import cli
try:
    cli(json.loads(sys.argv[1]))
except SystemExit as end:
    assert not end.code, end
print(json.dumps(sorted({*sys.modules} - before)), file=sys.stderr)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a home folder whose one conversation has been listed and searched."""
    with Engine(tmp_path / "openai2" / "openai2.db") as engine:
        engine.create("one").add([user_msg("what is a fork?"), assistant_msg("A pointer.")])
        assert engine.search("fork")
        assert engine.conversations()
    return tmp_path


def _imported(light: Light, home: Path) -> set[str]:
    # OPENAI2_HOME is set: without it, platformdirs would be imported.
    more = {"OPENAI2_HOME": str(home / "openai2")}
    words = light.words.split()
    if light.complete:
        more["_OPENAI2_COMPLETE"] = "bash_complete"
        more |= {"COMP_WORDS": f"openai2 {light.words}", "COMP_CWORD": str(len(words))}
        words = []
    done = subprocess.run(
        [sys.executable, "-c", _CODE, json.dumps(words)],
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize("light", LIGHT, ids=lambda light: ("complete " * light.complete) + light.words)
def test_light_command_imports_only_what_it_needs(light: Light, home: Path) -> None:
    imported = _imported(light, home)
    ours = {name.removeprefix("openai2.") for name in imported if name.partition(".")[0] == "openai2"}
    # Importing a module imports its package too.
    ours = {name for name in ours if not any(other.startswith(f"{name}.") for other in ours)}
    assert ours <= set(light.ours.split()), "more of ours than it needs"
    assert imported & HEAVY <= set(light.heavy.split()), "more that is heavy than it needs"
