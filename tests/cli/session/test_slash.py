"""Slash commands, run without a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openai2.cli.session import slash, slash_files, slash_navigation
from openai2.cli.session.session import Session
from openai2.cli.terminal import clipboard
from openai2.cli.terminal.text import width
from openai2.core.messages import Multimodal_Part
from openai2.errors import BadInput, Refused

assert slash_files and slash_navigation  # importing them fills the table

PNG = b"\x89PNG\r\n\x1a\n and so on"


def texts(session: Session) -> list[str]:
    return [str(message["content"]) for message in session.chat.fetch_messages()]


Output = Callable[[str], str]


@pytest.fixture
def output_of(session: Session, capsys: pytest.CaptureFixture[str]) -> Output:
    """Return a function that runs a slash command and returns what it prints."""

    def run(line: str) -> str:
        capsys.readouterr()
        slash.run(session, line)
        session.mark_seen()
        captured = capsys.readouterr()
        return captured.out + captured.err

    return run


def test_edit_forks_before_the_question(session: Session, output_of: Output) -> None:
    origin = session.chat.conversation
    output = output_of("/edit 2")
    assert session.draft == "自然数50的后面是几?" and texts(session) == []
    assert f"/switch {origin.id[:8]}" in output
    (forked,) = session.chat.engine.children(origin.id)
    assert forked.parent_version == 1  # where the question was asked
    event = next(session.chat.events()).event
    assert getattr(event, "reason", None) == "edit"
    session.ask("自然数7的后面是几?")
    assert texts(session) == ["自然数7的后面是几?", "8"]
    output_of(f"/switch {origin.id[:6]}")
    assert len(texts(session)) == 4 and session.chat.conversation.id == origin.id
    with pytest.raises(Refused, match="2 questions"):
        slash.run(session, "/edit 3")
    # In a fork, what was inherited; with pins that came later; and a question with a picture.
    output_of("/fork twin")
    output_of("/pin 0")
    session.attached.append(Multimodal_Part.png(PNG))
    session.ask("What is this?")
    assert session.attached == []
    output_of("/edit")
    assert session.draft == "What is this?" and session.attached == [Multimodal_Part.png(PNG)]
    output_of("/edit")
    assert session.draft == "再往后是几?" and texts(session) == ["自然数50的后面是几?", "51"]
    assert session.chat.conversation.view().pins


def test_settings_are_shown_changed_and_recorded(session: Session, output_of: Output) -> None:
    assert "the model is gpt-x" in output_of("/model gpt-x")
    assert session.chat.model == "gpt-x" and session.chat.conversation.settings().model is None
    assert "4 messages" in output_of("/max 4")
    assert "no system message" in output_of("/system")
    output_of("/system Be brief: say no more.")
    assert output_of("/system") == "Be brief: say no more.\n"
    session.ask("And then?")
    assert session.chat.conversation.settings().model == "gpt-x"  # it has answered
    assert len(texts(session)) == 4
    assert "no limit" in output_of("/max 0") and session.chat.MsgMaxCount is None
    assert session.chat.conversation.settings().limit == 0  # also next time
    output_of("/new other")
    assert session.chat.model == "gpt-x" and texts(session) == [] and session.title == "other"
    with pytest.raises(BadInput, match="expected a whole number"):
        slash.run(session, "/max many")


def test_navigation_and_misuse_are_reported(session: Session, output_of: Output) -> None:
    assert "[1] assistant" in output_of("/at 4") and "1 action" in output_of("/undo")
    assert "- user: 再往后是几?" in output_of("/why")
    assert "1 action redone" in output_of("/redo")
    assert "+ user: 再往后是几?" in output_of("/why")
    assert "[自然数]50" in output_of("/search 自然数")
    assert "nothing was found" in output_of("/search zebra")
    output_of("/retry gpt-y")
    *_others, last = session.chat.events()
    assert last.data["answer"]["model"] == "gpt-y" and session.chat.model == "offline"
    output_of("/fork 新的一支")
    listed = output_of("/list")
    assert "* " in listed and listed.index("* ") < listed.index("新的一支")
    for line, complaint in (
        ("/switch", "expected a conversation"),
        ("/at", "the latest is"),
        ("/undo 0", "1 or more"),
        ("/hsitory", "did you mean /history"),
        ("/zzz", "/help lists"),
        ("/copy that", "takes no argument"),
    ):
        with pytest.raises(BadInput, match=complaint):
            slash.run(session, line)


def test_help_lists_every_command_within_the_columns(
    session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (
        "undo redo rollback retry edit pin unpin history at fork switch new list search model system max "
        "attach copy save why help exit"
    )
    assert set(wanted.split()) == set(slash.ROWS)
    for columns in (80, 20):
        monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        slash.run(session, "/help")
        shown = capsys.readouterr().out
        assert all(f"/{name}" in shown for name in slash.ROWS)
        assert all(width(line) < columns for line in shown.splitlines())


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("/undo", True),
        ("/nothing", True),
        ("//undo", False),
        ("/", False),
        ("/ undo", False),
        ("/etc/hosts what is it?", False),
        ("/tmp is full", False),
        ("/* a comment */", False),
        ("/30 is a mask", False),
        (" /undo", False),
        ("", False),
    ],
)
def test_is_command_tells_commands_from_paths_and_questions(line: str, is_one: bool) -> None:
    assert slash.is_command(line) is is_one


def test_save_writes_json_and_markdown_but_does_not_overwrite(
    session: Session, tmp_path: Path, output_of: Output
) -> None:
    path = tmp_path / "a name.json"
    output_of(f"/save {path}")
    assert json.loads(path.read_text("utf-8")) == session.chat.fetch_messages()
    with pytest.raises(Refused, match="-f"):
        slash.run(session, f"/save '{path}'")
    output_of("/rollback")
    output_of(f"/save -f {path}")
    assert len(json.loads(path.read_text("utf-8"))) == 2
    output_of(f"/save {tmp_path / 'talk.md'}")
    assert session.chat.engine.import_(tmp_path / "talk.md")
    with pytest.raises(BadInput, match="ends in"):
        slash.run(session, "/save talk")
    (tmp_path / "link.md").symlink_to("chat.db")
    with pytest.raises(BadInput, match="belongs to a database"):
        slash.run(session, f"/save -f {tmp_path / 'link.md'}")


def test_attached_files_are_sent_with_the_next_question(
    session: Session, tmp_path: Path, output_of: Output
) -> None:
    (tmp_path / "notes.txt").write_text("the notes", "utf-8")
    (tmp_path / "a picture.png").write_bytes(PNG)
    assert "notes.txt" in output_of(f"/attach {tmp_path / 'notes.txt'}")
    picture = str(tmp_path / "a picture.png")
    dropped = picture.replace(" ", "\\ ")
    assert "notes.txt, an image" in output_of(f"/attach {dropped}")
    assert "2 attached" in session.status.line(80, len(session.attached))
    session.ask("What are these?")
    last = session.chat.fetch_messages()[-2]["content"]
    assert [part["type"] for part in last] == ["text", "text", "image_url"]
    output_of(f"/attach {picture}")
    assert "nothing" in output_of("/attach -")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_copy_uses_a_program_or_the_terminal(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_of: Output
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Refused, match="clipboard"):
        slash.run(session, "/copy")
    program = tmp_path / "xclip"
    program.write_text(f"#!/bin/sh\n/bin/cat > '{tmp_path}/taken'\n")
    program.chmod(0o755)
    monkeypatch.setenv("DISPLAY", ":0")
    assert "copied: 2 characters" in output_of("/copy")
    assert (tmp_path / "taken").read_text() == "52"
    monkeypatch.setattr(clipboard, "is_terminal", bool)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b]52;c;NTI=\a" in output_of("/copy")
