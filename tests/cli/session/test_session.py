"""A session without a terminal: its commands, its status line, what Tab offers, what others do meanwhile."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from openai2 import Chat, Engine
from openai2.cli.arguments import attachments
from openai2.cli.session import slash, slash_files, slash_navigation
from openai2.cli.session.completer import CompletionNames, SlashCompleter
from openai2.cli.session.session import Session
from openai2.cli.session.streaming import AnswerLoop
from openai2.cli.terminal import clipboard
from openai2.cli.terminal.text import width
from openai2.core.messages import Multimodal_Part
from openai2.errors import BadInput, Refused
from openai2.offline import OfflineServer
from openai2.store import Draft

assert slash_files and slash_navigation  # they fill the table

PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with (
        OfflineServer() as server,
        Engine(tmp_path / "chat.db") as engine,
        Chat("sk-made-up-for-the-tests", "offline", db=engine, base_url=server.base_url) as chat,
        AnswerLoop() as answers,
    ):
        opened = Session(chat, answers)
        opened.ask("自然数50的后面是几?")
        opened.ask("再往后是几?")
        yield opened


def texts(session: Session) -> list[str]:
    return [str(message["content"]) for message in session.chat.fetch_messages()]


def told(session: Session, capsys: pytest.CaptureFixture[str], line: str) -> str:
    """What a command says."""
    capsys.readouterr()
    slash.run(session, line)
    session.mark_seen()
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_an_earlier_question_is_changed_in_a_fork(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    origin = session.chat.conversation
    said = told(session, capsys, "/edit 2")
    assert session.draft == "自然数50的后面是几?" and texts(session) == []
    assert f"/switch {origin.id[:8]}" in said
    (forked,) = session.chat.engine.children(origin.id)
    assert forked.parent_version == 1  # where the question was asked
    event = next(session.chat.events()).event
    assert getattr(event, "reason", None) == "edit"
    session.ask("自然数7的后面是几?")
    assert texts(session) == ["自然数7的后面是几?", "8"]
    told(session, capsys, f"/switch {origin.id[:6]}")
    assert len(texts(session)) == 4 and session.chat.conversation.id == origin.id
    with pytest.raises(Refused, match="2 questions"):
        slash.run(session, "/edit 3")
    # In a fork, what was inherited; with pins that came later; and a question with a picture.
    told(session, capsys, "/fork twin")
    told(session, capsys, "/pin 0")
    session.attached.append(Multimodal_Part.png(PNG))
    session.ask("What is this?")
    assert session.attached == []
    told(session, capsys, "/edit")
    assert session.draft == "What is this?" and session.attached == [Multimodal_Part.png(PNG)]
    told(session, capsys, "/edit")
    assert session.draft == "再往后是几?" and texts(session) == ["自然数50的后面是几?", "51"]
    assert session.chat.conversation.view().pins


def test_settings(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the model is gpt-x" in told(session, capsys, "/model gpt-x")
    assert session.chat.model == "gpt-x" and session.chat.conversation.settings().model == "gpt-x"
    assert "4 messages" in told(session, capsys, "/max 4")
    assert "no system message" in told(session, capsys, "/system")
    told(session, capsys, "/system Be brief: say no more.")
    assert told(session, capsys, "/system") == "Be brief: say no more.\n"
    session.ask("And then?")
    assert len(texts(session)) == 4
    assert "no limit" in told(session, capsys, "/max 0") and session.chat.MsgMaxCount is None
    told(session, capsys, "/new other")
    assert session.chat.model == "gpt-x" and texts(session) == [] and session.title == "other"
    with pytest.raises(BadInput, match="expected a whole number"):
        slash.run(session, "/max many")


def test_elsewhere_and_back(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert "[1] assistant" in told(session, capsys, "/at 4") and "1 action" in told(session, capsys, "/undo")
    assert "- user: 再往后是几?" in told(session, capsys, "/why")
    assert "1 action redone" in told(session, capsys, "/redo")
    assert "+ user: 再往后是几?" in told(session, capsys, "/why")
    assert "[自然数]50" in told(session, capsys, "/search 自然数")
    assert "nothing was found" in told(session, capsys, "/search zebra")
    told(session, capsys, "/retry gpt-y")
    *_others, last = session.chat.events()
    assert last.data["answer"]["model"] == "gpt-y" and session.chat.model == "offline"
    told(session, capsys, "/fork 新的一支")
    listed = told(session, capsys, "/list")
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


def test_help_names_every_command_and_fits(
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
def test_what_is_a_command(line: str, is_one: bool) -> None:
    assert slash.is_command(line) is is_one


def test_messages_are_saved(session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a name.json"
    told(session, capsys, f"/save {path}")
    assert json.loads(path.read_text("utf-8")) == session.chat.fetch_messages()
    with pytest.raises(Refused, match="-f"):
        slash.run(session, f"/save '{path}'")
    told(session, capsys, "/rollback")
    told(session, capsys, f"/save -f {path}")
    assert len(json.loads(path.read_text("utf-8"))) == 2
    told(session, capsys, f"/save {tmp_path / 'talk.md'}")
    assert session.chat.engine.import_(tmp_path / "talk.md")
    with pytest.raises(BadInput, match="ends in"):
        slash.run(session, "/save talk")
    (tmp_path / "link.md").symlink_to("chat.db")
    with pytest.raises(BadInput, match="belongs to a database"):
        slash.run(session, f"/save -f {tmp_path / 'link.md'}")


def test_files_go_with_the_next_question(
    session: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("the notes", "utf-8")
    (tmp_path / "a picture.png").write_bytes(PNG)
    assert "notes.txt" in told(session, capsys, f"/attach {tmp_path / 'notes.txt'}")
    picture = str(tmp_path / "a picture.png")
    dropped = picture.replace(" ", "\\ ")
    assert "notes.txt, an image" in told(session, capsys, f"/attach {dropped}")
    assert "2 attached" in session.status.line(80, len(session.attached))
    session.ask("What are these?")
    last = session.chat.fetch_messages()[-2]["content"]
    assert [part["type"] for part in last] == ["text", "text", "image_url"]
    told(session, capsys, f"/attach {picture}")
    assert "nothing" in told(session, capsys, "/attach -")


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (PNG, "x", "image_url"),
        (b"\xff\xd8\xff\xe0", "x.png", "image_url"),
        (b"RIFF\0\0\0\0WEBP", "x", "image_url"),
        (b"%PDF-1.7", "x.pdf", "file"),
        (b"ID3", "x.mp3", "input_audio"),
        ("文".encode(), "x.md", "text"),
    ],
)
def test_what_can_be_attached(data: bytes, name: str, kind: str) -> None:
    part = attachments.to_part(data, name)
    assert part["type"] == kind and attachments.describe(part)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"", "empty"), (b"\x7fELF\0", "cannot attach"), (b"x" * 2_000_001, "larger than")],
)
def test_what_cannot(data: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        attachments.to_part(data, "thing")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_copying(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
    assert "copied: 2 characters" in told(session, capsys, "/copy")
    assert (tmp_path / "taken").read_text() == "52"
    monkeypatch.setattr(clipboard, "is_terminal", bool)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b]52;c;NTI=\a" in told(session, capsys, "/copy")


def test_the_status_line(session: Session) -> None:
    session.chat.pin_messages(0)
    session.mark_seen()
    line = session.status.line(80)
    tokens = sum(line.prompt_tokens + line.completion_tokens for line in session.chat.engine.stats())
    assert line == f"{session.title} · offline · 4 messages · 1 pinned · {tokens} tokens"
    session.chat.MsgMaxCount = 6
    assert session.status.line(80) == line  # it is not looked up at each key
    session.status.expire()
    assert "4 of 6 messages" in session.status.line(80)
    session.chat.conversation.rename("一个很长很长的名字" * 5)
    session.status.expire()
    assert all(width(session.status.line(columns)) < columns for columns in (80, 30, 20, 3))


def test_what_others_do_is_told(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.report_changes(own_rounds=2)
    other = session.chat.engine.open(session.chat.conversation.id)
    twin = copy.copy(session.chat)
    twin.conversation = other
    capsys.readouterr()
    session.report_changes()
    assert capsys.readouterr().err == ""
    twin.request("自然数1的后面是几?")
    twin.request("And then?")
    session.report_changes()
    assert "another process added 2 rounds" in capsys.readouterr().err
    other.pin(0)
    session.report_changes()
    assert "changed the conversation" in capsys.readouterr().err
    # Rounds that came while ours did are told apart from it.
    session.ask("自然数2的后面是几?")
    assert capsys.readouterr().err == ""
    twin.request("And then?")
    session.ask("And then?")
    assert "another process added 1 round" in capsys.readouterr().err
    from openai2.history import drafts

    session.chat.engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(other.id, 99)))
    session.status.expire()
    assert "another process is asking" in session.status.line(80)
    session.ask("And then?")
    assert "is asking in this conversation, too" in capsys.readouterr().err
    dead = Draft(other.id, 99, "nowhere 1 1", 0.0, None)
    session.chat.engine.store.transact(lambda tx: tx.put_draft(dead))
    assert not session.watch.is_busy()


def test_completion(session: Session, tmp_path: Path) -> None:
    engine = session.chat.engine
    engine.create("Holiday plans")
    session.chat.conversation.configure(model="gpt-x")
    (tmp_path / "notes.txt").write_text("")
    commands = [(f"/{row.name}", row.help) for row in slash.ROWS.values()]
    completer = SlashCompleter(CompletionNames(engine, commands))

    def offered(text: str) -> list[str]:
        found = completer.get_completions(Document(text), CompleteEvent())
        return [text[: len(text) + one.start_position] + one.text for one in found]

    assert offered("/un") == ["/undo", "/unpin"]
    assert offered("/switch hol") == ["/switch Holiday plans"]
    assert offered("/model ") == ["/model gpt-x", "/model offline"]
    assert offered(f"/attach {tmp_path}/no") == [f"/attach {tmp_path}/notes.txt"]
    assert offered("hello") == offered("/undo 1") == offered("/a\n/b") == []
