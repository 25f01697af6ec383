"""The `db` argument: how a store is named, shared, closed, and refused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openai2 import (
    BadInput,
    Chat,
    NewerStore,
    NotAStore,
    Openai2Error,
    StoreError,
    StoreUnavailable,
    user_msg,
)
from openai2.offline import OfflineServer
from tests.support.chats import KEY, awaited, chat_with


def test_db_is_a_path_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "new folder" / "a#b?.db"
    with Chat(KEY, db=path, conversation="c") as chat:
        chat.add_dialogs(user_msg("hi"))
    quoted = str(path).replace(" ", "%20").replace("#", "%23").replace("?", "%3F")
    names: tuple[Any, ...] = (
        *(str(path), os.path.relpath(path), f"sqlite:///{quoted}", "~/new folder/a#b?.db"),
        f"sqlite:///{os.path.relpath(quoted)}",
    )
    for name in names:
        with Chat(KEY, db=name, conversation="c") as chat:
            assert chat.fetch_messages() == [user_msg("hi")], name
    for memory in (None, ":memory:", "sqlite://", "sqlite:///:memory:"):
        with Chat(KEY, db=memory) as chat:
            assert chat.fetch_messages() == []
    assert [path.name for path in tmp_path.iterdir()] == ["new folder"]


def test_with_and_async_with_close_the_store(offline: OfflineServer, tmp_path: Path) -> None:
    with chat_with(offline, db=tmp_path / "a.db") as chat:
        chat.request("hi")
        store = chat.engine.store
    with pytest.raises(StoreError, match="closed"):
        store.append("x", 0, [])
    chat.close()  # twice is fine

    async def main() -> Chat:
        async with chat_with(offline, db=tmp_path / "a.db") as other:
            await other.async_request("hi")
        return other

    other = asyncio.run(main())
    with pytest.raises(StoreError, match="closed"):
        other.request("hi")
    assert not (tmp_path / "a.db-wal").exists()  # the last connection removes it


def test_garbage_collected_chat_closes_its_store(offline: OfflineServer, tmp_path: Path) -> None:
    chat = chat_with(offline, db=tmp_path / "a.db")
    chat.request("hi")
    store = chat.engine.store
    del chat
    gc.collect()
    with pytest.raises(StoreError, match="closed"):
        store.append("x", 0, [])


def test_chats_on_one_file_share_a_store(offline: OfflineServer, tmp_path: Path) -> None:
    one = chat_with(offline, db=tmp_path / "a.db", conversation="c")
    two = chat_with(offline, db=f"sqlite:///{tmp_path / 'a.db'}", conversation="c")
    assert one.engine.store is two.engine.store
    one.request("hi")
    assert two.fetch_messages() == one.fetch_messages() != []
    fork = one.fork("f")
    one.close()
    two.close()
    fork.request("more")
    fork.close()


def _text(path: Path) -> None:
    path.write_text("hello, " * 1000)


def _other_program(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE t (x)")
        file.commit()


def _newer(path: Path) -> None:
    with Chat(KEY, db=path) as chat:
        chat.add_dialogs(user_msg("hi"))
    with contextlib.closing(sqlite3.connect(path)) as file:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        file.execute(f"PRAGMA user_version = {version + 1}")


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (_text, NotAStore, "a.db"),
        (_other_program, NotAStore, "another program"),
        (_newer, NewerStore, "newer openai2"),
        (Path.mkdir, NotAStore, "folder"),
    ],
)
def test_db_that_is_not_a_store_is_refused_and_unchanged(
    make: Callable[[Path], None], kind: type[Openai2Error], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    make(path)
    before = path.is_file() and path.read_bytes()
    with pytest.raises(kind) as refusal:
        Chat(KEY, db=path)
    assert words in _one_line(refusal)
    assert before == (path.is_file() and path.read_bytes()) and [*tmp_path.iterdir()] == [path]


def test_db_below_a_file_is_refused(tmp_path: Path) -> None:
    _text(tmp_path / "file")
    with pytest.raises(StoreUnavailable) as refusal:
        Chat(KEY, db=tmp_path / "file" / "a.db")
    assert str(tmp_path) in _one_line(refusal)


@pytest.mark.parametrize("url", ["postgres://u:secret@h/db", "http://x/y", "sqlite://host/x", "://"])
def test_invalid_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(BadInput) as refusal:
        Chat(KEY, db=url)
    assert "secret" not in _one_line(refusal)


def _one_line(refusal: pytest.ExceptionInfo[Openai2Error]) -> str:
    assert len(str(refusal.value).splitlines()) == 1
    return str(refusal.value)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_store_in_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    with Chat(KEY, db=closed / "a.db", conversation="c") as chat:
        chat.add_dialogs(user_msg("hi"))
    closed.chmod(0o500)
    try:
        with pytest.raises(StoreUnavailable):
            Chat(KEY, db=closed / "new.db")
        with Chat(KEY, db=closed / "a.db", conversation="c") as chat:
            assert chat.fetch_messages() == [user_msg("hi")]
            with pytest.raises(StoreUnavailable, match="read-only"):
                chat.add_dialogs(user_msg("more"))
    finally:
        closed.chmod(0o700)


def test_read_only_store_can_be_read_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, for tests that run as root."""
    with Chat(KEY, db=tmp_path / "a.db", conversation="c") as chat:
        chat.add_dialogs(user_msg("hi"))

    def access(path: object, mode: int) -> bool:
        return not mode & os.W_OK

    monkeypatch.setattr("os.access", access)
    with Chat(KEY, db=tmp_path / "a.db", conversation="c") as chat:
        assert chat.fetch_messages() == [user_msg("hi")]
        with pytest.raises(StoreUnavailable, match="read-only"):
            chat.add_dialogs(user_msg("more"))
        with pytest.raises(StoreUnavailable, match="read-only"):
            asyncio.run(awaited(chat.async_request("more")))
