"""The progress line of long commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openai2.cli.terminal.progress import Line

if TYPE_CHECKING:
    import pytest


def test_progress_line_appears_after_a_while_and_is_cleared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("openai2.cli.terminal.progress.time.monotonic", lambda: now[0])
    monkeypatch.setattr("openai2.cli.terminal.progress.is_terminal", bool)
    line = Line("verifying")
    line(1, 8)
    assert capsys.readouterr().err == ""
    now[0] = 1.0
    line(2, 8)
    line(3, 8)
    line.clear()
    line.clear()
    assert capsys.readouterr().err == "\rverifying [######..................] 2/8\x1b[K\r\x1b[K"
