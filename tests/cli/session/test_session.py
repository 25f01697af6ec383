"""The session without a terminal: status line, changes by other writers, completion."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from openai2.cli.session import slash
from openai2.cli.session.completer import CompletionNames, SlashCompleter
from openai2.cli.session.session import Session
from openai2.cli.terminal.text import width
from openai2.history import drafts
from openai2.store import Draft

if TYPE_CHECKING:
    import pytest


def test_status_line_is_cached_and_fits_the_columns(session: Session) -> None:
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


def test_changes_by_other_writers_are_reported(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
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
    # Rounds of another writer that came during our own are counted apart.
    session.ask("自然数2的后面是几?")
    assert capsys.readouterr().err == ""
    twin.request("And then?")
    session.ask("And then?")
    assert "another process added 1 round" in capsys.readouterr().err

    session.chat.engine.store.transact(lambda tx: tx.put_draft(drafts.fresh(other.id, 99)))
    session.status.expire()
    assert "another process is asking" in session.status.line(80)
    session.ask("And then?")
    assert "is asking in this conversation, too" in capsys.readouterr().err
    dead = Draft(other.id, 99, "nowhere 1 1", 0.0, None)
    session.chat.engine.store.transact(lambda tx: tx.put_draft(dead))
    assert not session.watch.is_busy()


def test_tab_completes_commands_names_models_and_files(session: Session, tmp_path: Path) -> None:
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
