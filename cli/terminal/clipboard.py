"""Copy text to the clipboard: through the terminal, which works over ssh too, or with a program."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys

from openai2.cli.terminal.text import is_terminal

#: Clipboard programs: name, arguments, and the environment variable that must be set, if any.
_PROGRAMS: tuple[tuple[str, tuple[str, ...], str | None], ...] = (
    ("wl-copy", (), "WAYLAND_DISPLAY"),
    ("xclip", ("-selection", "clipboard"), "DISPLAY"),
    ("xsel", ("--clipboard", "--input"), "DISPLAY"),
    ("pbcopy", (), None),
    ("clip.exe", (), None),
)
#: Base64 characters that terminals accept at once; some drop longer sequences.
_MAX_BASE64 = 100_000


def copy(text: str) -> bool:
    """Copy *text* to the clipboard. Return False if neither a terminal nor a program could take it."""
    copied = _copy_by_program(text)
    return _copy_by_terminal(text) or copied


def _copy_by_terminal(text: str) -> bool:
    """Send OSC 52. The terminal does not confirm it."""
    encoded = base64.b64encode(text.encode()).decode("ascii")
    is_capable = is_terminal(sys.stdout) and os.environ.get("TERM", "") not in ("", "dumb", "linux")
    if not is_capable or len(encoded) > _MAX_BASE64:
        return False
    sys.stdout.write(f"\x1b]52;c;{encoded}\a")
    sys.stdout.flush()
    return True


def _copy_by_program(text: str) -> bool:
    for name, arguments, variable in _PROGRAMS:
        path = shutil.which(name) if variable is None or os.environ.get(variable) else None
        if path is None:
            continue
        encoding = "utf-16" if name == "clip.exe" else "utf-8"
        try:
            subprocess.run(  # noqa: S603 - a program of the list above, found on PATH
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
