"""Servers and chats that the tests of this folder use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from openai2 import Chat
from openai2.offline import OfflineServer
from tests.support.chats import Scripted, chat_with
from tests.support.servers import ScriptedServer


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """Scripted servers that are closed at the test's end."""
    with contextlib.ExitStack() as stack:
        yield lambda *replies: stack.enter_context(ScriptedServer(*replies))


@pytest.fixture
def unchanging(offline: OfflineServer) -> Iterator[Chat]:
    """A chat with one round; fails the test if it records or sends anything more."""
    chat = chat_with(offline)
    chat.request("自然数1的后面是几?")
    before, asked = chat.head, len(offline.requests)
    yield chat
    assert chat.head == before and len(offline.requests) == asked
