"""A session without a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openai2 import Chat, Engine
from openai2.cli.session.session import Session
from openai2.cli.session.streaming import AnswerLoop
from openai2.offline import OfflineServer


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session with two rounds, on the offline server."""
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
