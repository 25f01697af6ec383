"""Keep a copy of every `--help` in tests/support/help/, so that a change is noticed.

python tests/support/help_texts.py            prints the differences
python tests/support/help_texts.py --write    writes the files
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "help"
_ASKED = {"COLUMNS": "80", "LC_ALL": "C.UTF-8", "OPENAI2_LANG": "en"}


def texts() -> Iterator[tuple[str, str]]:
    """Yield the name and the expected content of each file."""
    os.environ.update(_ASKED)  # before the texts are translated
    sys.path.append(str(FOLDER.parent.parent))  # if the package is not installed
    from click.testing import CliRunner

    from openai2.cli import MODULES, cli

    for name in ("", *MODULES):
        asked = CliRunner().invoke(cli, [*filter(None, [name]), "--help"], terminal_width=80)
        if asked.exit_code:
            raise SystemExit(f"openai2 {name} --help: {asked.output}")
        yield f"{name or 'openai2'}.txt", asked.output


def differences() -> Iterator[str]:
    """Yield the lines of a diff between the files and the current help."""
    current = dict(texts())
    for name in sorted({*current, *(path.name for path in FOLDER.glob("*.txt"))}):
        path = FOLDER / name
        kept = path.read_text("utf-8") if path.exists() else ""
        yield from difflib.unified_diff(
            kept.splitlines(),
            current.get(name, "").splitlines(),
            f"{name} (kept)",
            f"{name} (now)",
            lineterm="",
        )


def write() -> None:
    """Write all files; delete those of commands that no longer exist."""
    FOLDER.mkdir(exist_ok=True)
    current = dict(texts())
    for path in FOLDER.glob("*.txt"):
        if path.name not in current:
            path.unlink()
    for name, text in current.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write()
    elif lines := list(differences()):
        print(*lines, sep="\n")
        raise SystemExit(
            "the help differs from tests/support/help/:"
            " python tests/support/help_texts.py --write accepts the change"
        )
