"""Clients and the end of what they run in: event loops, processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from openai2 import Chat
from tests.support.misbehaving_server import EVENTS, Dribble, Misbehaving, Script, Sleep, event, head
from tests.support.servers import ScriptedServer, completion, delta, error, sse, streamed

KEY = "sk-made-up-0123456789abcdef"

_MAIN = f"""
import asyncio, gc, os, sys, threading
from openai2 import Chat
from openai2.api import clients

async def main():
    chat = Chat({KEY!r}, "m", base_url=sys.argv[1])
    print(await chat.async_request("one"), await chat.async_request("two"))
"""
_CLOSE = "loop.run_until_complete(loop.shutdown_asyncgens()); loop.close()"
_NOTHING_LEFT = "\ngc.collect()\nassert not clients._async_clients and not clients._users"
LOOPS = {
    "asyncio.run": "asyncio.run(main())",
    "many loops": "for _ in range(5): asyncio.run(main())",
    "own loop": f"loop = asyncio.new_event_loop(); loop.run_until_complete(main()); {_CLOSE}",
    "evicted client": (
        "clients.MOST_CLIENTS = 1; loop = asyncio.new_event_loop(); loop.run_until_complete(main());"
        f" clients.MOST_CLIENTS = 0; loop.run_until_complete(main()); {_CLOSE}"
    ),
    "trio": "import trio; trio.run(main); trio.run(main)",
    "trio, evicted client": "import trio; clients.MOST_CLIENTS = 0; trio.run(main)",
}


def _run(program: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "always", "-c", _MAIN + program, url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("run", LOOPS.values(), ids=LOOPS)
def test_ended_loop_leaves_no_warning(run: str) -> None:
    with ScriptedServer(completion("yes")) as server:
        ran = _run(run + _NOTHING_LEFT, server.base_url)
    assert ran.stderr == ""
    assert {*ran.stdout.splitlines()} == {"yes yes"}


def test_loop_closed_without_its_generators_leaves_no_traceback() -> None:
    """asyncio itself warns of the open connection."""
    run = "loop = asyncio.new_event_loop(); loop.run_until_complete(main()); loop.close(); del loop"
    with ScriptedServer(completion("yes")) as server:
        ran = _run(run + "; gc.collect()", server.base_url)
    assert ran.stdout == "yes yes\n"
    assert "Traceback" not in ran.stderr and "Unclosed client session" not in ran.stderr


BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@BACKENDS
@pytest.mark.parametrize("use_create", [False, True], ids=["post", "create"])
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # generators of the SDK, in trio
def test_requests_run_under_anyio(backend: str, use_create: bool, tmp_path: Path) -> None:
    async def main() -> None:
        options: Any = {"base_url": server.base_url, "use_create": use_create, "db": tmp_path / "log.db"}
        async with Chat(KEY, "m", conversation="c", **options) as chat:
            assert await chat.async_request("one") == "whole"
            assert [piece async for piece in chat.async_stream_request("two")] == ["in", "pi"]
            assert await chat.async_request("retried") == "whole"
            assert len(chat.fetch_messages()) == 6

    whole, stream = (
        completion("whole"),
        streamed(sse(delta(content="in"), delta(content="pi", finish="stop"))),
    )
    busy = error(503, "busy", **{"Retry-After": "0.01"})
    with ScriptedServer(whole, stream, busy, whole) as server:
        anyio.run(main, backend=backend)


@BACKENDS
def test_cancelled_stream_is_on_record(backend: str) -> None:
    """A cancellation by anyio is raised again at every await until its scope ends."""

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async for _ in chat.async_stream_request("a question"):
                scope.cancel()
        assert scope.cancelled_caught

    script: Script = [EVENTS, event(content="half"), Sleep(60)]
    with Misbehaving(script) as server, Chat(KEY, "m", base_url=server.base_url) as chat:
        anyio.run(main, backend=backend)
        assert [record.type for record in chat.events()][-1] == "request_stopped"
        assert chat.fetch_messages()[-1] == {"role": "assistant", "content": "half"}


@BACKENDS
def test_deadline_holds_under_anyio(backend: str) -> None:
    async def main() -> None:
        with pytest.raises(openai.APITimeoutError):
            await chat.async_request("a question")

    script: Script = [head("200 OK"), Dribble(b" ")]
    with Misbehaving(script) as server:
        chat = Chat(KEY, "m", base_url=server.base_url, timeout=0.3, max_retries=0)
        anyio.run(main, backend=backend)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_forked_process_opens_connections_of_its_own() -> None:
    program = f"""
with Chat({KEY!r}, "m", base_url=sys.argv[1]) as chat:
    chat.request("before")
    busy = threading.Thread(target=clients._lock.acquire)
    busy.start(); busy.join()  # a lock that the child could never acquire
    child = os.fork()
    if not child:
        with Chat({KEY!r}, "m", base_url=sys.argv[1]) as own:
            own.request("in the child")
        os._exit(0)
    sys.exit(os.waitpid(child, 0)[1])
"""
    with ScriptedServer(completion("yes")) as server:
        assert _run(program, server.base_url).returncode == 0
    assert [asked.connection for asked in server.asked] == [1, 2]
