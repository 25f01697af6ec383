"""A store whose file is moved, removed or replaced while it is open acknowledges nothing more."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from openai2 import Chat, Engine, StoreUnavailable, user_msg
from openai2.offline import OfflineServer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps open files in their place")


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


def _remove_all(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def _make_another(path: Path) -> None:
    _remove_all(path)
    with Engine(path) as engine:
        engine.create("another")


DISASTERS: list[Callable[[Path], object]] = [
    Path.unlink,
    _replace,
    _remove_all,
    _make_another,
    lambda path: path.rename(path.with_name("elsewhere")),
    lambda path: path.with_name(f"{path.name}-wal").unlink(),
    lambda path: path.parent.rename(path.parent.with_name("moved")),
]


@pytest.mark.parametrize("disaster", DISASTERS)
def test_commit_to_a_file_that_is_gone_is_refused(tmp_path: Path, disaster: Callable[[Path], object]) -> None:
    path = tmp_path / "home" / "chats.db"
    with OfflineServer() as server, Chat("sk-test", db=path, base_url=server.base_url) as chat:
        chat.request("one")
        version = chat.version
        disaster(path)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                chat.add_dialogs(user_msg("two"))
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                chat.request("three")
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                asyncio.run(chat.async_request("four"))
        assert chat.version == version and len(chat.fetch_messages()) == 2


def test_answer_is_refused_if_the_file_goes_while_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    with OfflineServer() as server, Chat("sk-test", db=path, base_url=server.base_url) as chat:
        pieces = chat.stream_request("one two three")
        next(pieces)
        path.unlink()
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            list(pieces)


def test_file_that_comes_back_is_written_to_again(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    with Engine(path) as engine:
        conversation = engine.create("c")
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(StoreUnavailable):
            conversation.add([user_msg("hello")])
        (tmp_path / "elsewhere").rename(path)
        conversation.add([user_msg("hello")])
    with Engine(path) as engine:
        assert len(engine.open("c").messages()) == 1 and engine.verify().ok


def test_store_behind_a_link_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    for name in ("a.db", "b.db"):
        Engine(tmp_path / name).close()
    link.symlink_to("a.db")
    with Engine(link) as engine:
        engine.create("c")
        link.unlink()
        link.symlink_to("b.db")
        with pytest.raises(StoreUnavailable):
            engine.create("d")
