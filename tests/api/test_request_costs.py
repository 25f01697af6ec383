"""What a request costs at the transport: clients and packets, counted."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai2 import Chat, Engine
from openai2.api import clients
from openai2.offline import OfflineServer

KEY = "sk-counting-000000000"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "store.db") as engine:
        yield engine


def test_chats_share_one_client_per_key(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    original: Any = clients._make  # pyright: ignore[reportPrivateUsage]

    def counted(*args: Any, **options: Any) -> Any:
        made.append(args[1])
        return original(*args, **options)

    monkeypatch.setattr(clients, "_make", counted)
    with OfflineServer() as server:
        for number in range(12):
            key = f"sk-counting-{number % 3}00000000"
            chat = Chat(key, "offline", base_url=server.base_url, db=engine)
            chat.request("自然数50的后面是几?")
    assert len(made) == 3, made


@pytest.mark.parametrize("blocking", [True, False], ids=["sync", "async"])
def test_request_is_sent_in_one_packet(blocking: bool) -> None:
    pieces: list[bytes] = []
    answer = b'{"choices":[{"message":{"role":"assistant","content":"51"},"finish_reason":"stop"}]}'

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while piece := connection.recv(1 << 16):
                pieces.append(piece)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        with Chat(KEY, "offline", base_url=url, max_retries=0) as chat:

            async def ask_twice() -> list[str]:
                return [await chat.async_request("And next?") for _ in range(2)]

            if blocking:
                assert [chat.request("And next?") for _ in range(2)] == ["51", "51"]
            else:
                assert asyncio.run(ask_twice()) == ["51", "51"]
    assert len(pieces) == 2, pieces
    assert all(b"\r\n\r\n" in piece and piece.endswith(b"}") for piece in pieces), pieces
