"""Text for the clipboard: by the terminal, which also works across ssh, or by a program that is there."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys

from openai2.cli.terminal.text import is_terminal

#: The programs that take text for the clipboard, and where they can: a variable that must be set, if any.
_PROGRAMS: tuple[tuple[str, tuple[str, ...], str | None], ...] = (
    ("wl-copy", (), "WAYLAND_DISPLAY"),
    ("xclip", ("-selection", "clipboard"), "DISPLAY"),
    ("xsel", ("--clipboard", "--input"), "DISPLAY"),
    ("pbcopy", (), None),
    ("clip.exe", (), None),
)
#: Characters of base64 that terminals take in one go; of more, some take nothing.
_MOST = 100_000


def copy(text: str) -> bool:
    """Put *text* into the clipboard; whether there was any way to."""
    by_program = _by_program(text)
    return _by_terminal(text) or by_program


def _by_terminal(text: str) -> bool:
    """OSC 52. Whether the terminal obeys, it does not say."""
    encoded = base64.b64encode(text.encode()).decode("ascii")
    able = is_terminal(sys.stdout) and os.environ.get("TERM", "") not in ("", "dumb", "linux")
    if not able or len(encoded) > _MOST:
        return False
    sys.stdout.write(f"\x1b]52;c;{encoded}\a")
    sys.stdout.flush()
    return True


def _by_program(text: str) -> bool:
    for name, arguments, needed in _PROGRAMS:
        path = shutil.which(name) if needed is None or os.environ.get(needed) else None
        if path is None:
            continue
        encoding = "utf-16" if name == "clip.exe" else "utf-8"
        try:
            subprocess.run(  # noqa: S603 - a program of our own list, found on the person's path
                [path, *arguments],
                input=text.encode(encoding),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=5,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return True
    return False
