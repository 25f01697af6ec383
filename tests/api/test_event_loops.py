"""Clients and the end of what they run in: event loops, processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.servers import ScriptedServer, completion

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
