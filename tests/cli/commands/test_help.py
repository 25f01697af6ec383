"""Every command has help, kept in tests/support/help/, and is in docs/command.md and its translation."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from openai2.cli import MODULES, SECTIONS, cli
from tests.support.cli import TIMEOUT, environment, ok

ROOT = Path(__file__).resolve().parents[3]


def test_help_equals_the_kept_copies() -> None:
    """After a change on purpose: python tests/support/help_texts.py --write"""
    folder = ROOT / "tests" / "support"
    done = subprocess.run(
        [sys.executable, str(folder / "help_texts.py")],
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert {path.stem for path in (folder / "help").glob("*.txt")} == {"openai2", *MODULES}


@pytest.mark.parametrize("page", ["docs/command.md", "docs/command.zh.md"])
def test_page_of_commands_lists_every_command(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `openai2 ")]
    listed = {word for row in rows for word in re.findall(r"`(?:openai2 )?(\w+)", row)}
    assert listed == {*MODULES}


def test_every_command_and_option_has_help() -> None:
    assert ok() == ok("--help")
    assert set(MODULES) <= set(ok("--help").split())
    assert all(row.help.strip() for _title, rows in SECTIONS for row in rows)
    for name in MODULES:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None and command.name == name and command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts[-1]}"
