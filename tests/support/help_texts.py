"""What every `--help` says, kept as files in tests/support/help/, so that a change of it is seen.

python tests/support/help_texts.py            compares, and shows what differs
python tests/support/help_texts.py --write    writes the files anew
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
    """The name of each file, and what is to stand in it."""
    os.environ.update(_ASKED)  # before the texts are said
    sys.path.append(str(FOLDER.parent.parent))  # for a checkout that is not installed
    from click.testing import CliRunner

    from openai2.cli import MODULES, cli

    for name in ("", *MODULES):
        asked = CliRunner().invoke(cli, [*filter(None, [name]), "--help"], terminal_width=80)
        if asked.exit_code:
            raise SystemExit(f"openai2 {name} --help: {asked.output}")
        yield f"{name or 'openai2'}.txt", asked.output


def differences() -> Iterator[str]:
    """The lines of what differs."""
    wanted = dict(texts())
    for name in sorted({*wanted, *(path.name for path in FOLDER.glob("*.txt"))}):
        path = FOLDER / name
        kept = path.read_text("utf-8") if path.exists() else ""
        yield from difflib.unified_diff(
            kept.splitlines(),
            wanted.get(name, "").splitlines(),
            f"{name} (kept)",
            f"{name} (now)",
            lineterm="",
        )


def write() -> None:
    """Write the files anew."""
    FOLDER.mkdir(exist_ok=True)
    wanted = dict(texts())
    for path in FOLDER.glob("*.txt"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, "utf-8")


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write()
    elif told := list(differences()):
        print(*told, sep="\n")
        raise SystemExit(
            "the help differs from tests/support/help/:"
            " python tests/support/help_texts.py --write keeps it as it is now"
        )
