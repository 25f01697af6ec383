"""Every command has help, kept in tests/support/help/, and is in docs/command.md and its sister."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from openai2.cli import MODULES, SECTIONS, cli
from tests.support.cli import TIMEOUT, environment

ROOT = Path(__file__).resolve().parents[3]


def test_every_help_is_as_it_was() -> None:
    """After a change that is meant: python tests/support/help_texts.py --write"""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "help_texts.py")],
        env=environment(),
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert {path.stem for path in (ROOT / "tests" / "support" / "help").glob("*.txt")} == {
        "openai2",
        *MODULES,
    }


@pytest.mark.parametrize("page", ["docs/command.md", "docs/command.zh.md"])
def test_every_command_is_in_the_page_of_commands(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `openai2 ")]
    told = {word for row in rows for word in re.findall(r"`(?:openai2 )?(\w+)", row)}
    assert told == {*MODULES}


def test_every_command_and_option_has_help() -> None:
    assert all(row.help.strip() for _title, rows in SECTIONS for row in rows)
    for name in MODULES:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None and command.name == name and command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.opts[-1]}"
