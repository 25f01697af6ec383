"""Programs killed at any moment: everything that was acknowledged is in the store."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from openai2 import Chat, Engine
from openai2.offline import OfflineServer
from tests.support import writer_to_kill

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 16, 400
#: Seconds between two chunks, so that kills hit streams; drafts are written twice a second.
DELAY = 0.01

# Fork each process from one that has done the imports.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["openai", "openai2.chat", "tests.support.writer_to_kill"])

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")


@pytest.fixture(scope="module")
def server() -> Iterator[OfflineServer]:
    with OfflineServer(delay=DELAY) as running:
        yield running


class Victim:
    """A writer in another process, and the messages that it has sent so far."""

    def __init__(self, db: Path, server: OfflineServer, conversation: str, seed: int) -> None:
        self.messages: list[tuple[str, Any]] = []
        self.acted = threading.Semaphore(0)
        self.pipe, theirs = FORKS.Pipe(duplex=False)
        self.process = FORKS.Process(
            target=writer_to_kill.main,
            args=(theirs, str(db), server.base_url, conversation, seed),
            daemon=True,
        )
        self.process.start()
        theirs.close()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        try:
            while True:
                self.messages.append(self.pipe.recv())
                self.acted.release()
        except (EOFError, OSError):  # it is dead; its last message may be cut
            self.acted.release()

    def wait_for_messages(self, lines: int) -> None:
        for _ in range(lines):
            assert self.acted.acquire(timeout=60), f"the writer sent nothing after {self.messages[-1:]}"
            assert self.process.exitcode is None, "the writer ended by itself"

    def kill(self) -> None:
        self.process.kill()
        self.process.join(30)
        self.reader.join(30)
        self.pipe.close()
        assert self.process.exitcode == -signal.SIGKILL, "it ended by itself"

    def last_acknowledged(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Return the state after the last call that returned, and the pieces of a stream received since."""
        pieces: list[str] = []
        for word, what in reversed(self.messages):
            if word == "piece":
                pieces.insert(0, what)
            elif word == "ack":
                return (what if "head" in what else None), pieces
            else:
                return self._ack_before(), pieces
        return None, []

    def _ack_before(self) -> dict[str, Any] | None:
        acks = [what for word, what in self.messages if word == "ack" and "head" in what]
        return acks[-1] if acks else None


def kill_and_look(folder: Path, server: OfflineServer, chance: random.Random, choice: str) -> str:
    db = folder / "a.db"
    victim = Victim(db, server, "c", chance.randrange(1 << 30))
    try:
        victim.wait_for_messages(chance.randrange(2, 60))
    finally:
        victim.kill()
    acknowledged, pieces = victim.last_acknowledged()

    with Engine(db) as engine:
        report = engine.verify()
        assert report.ok, report
        conversation = engine.open("c")
        if acknowledged is not None:
            assert conversation.version >= acknowledged["version"]
            heads = {record.version: record.hash for record in conversation.events()}
            assert heads[acknowledged["version"]] == acknowledged["head"]
            assert conversation.at(acknowledged["version"]) == acknowledged["messages"]
    return recover(db, server, choice, pieces)


def recover(db: Path, server: OfflineServer, choice: str, pieces: list[str]) -> str:
    """Find the interrupted answer at once, and keep it, drop it or ask again."""
    with Chat("sk-fake", "m", base_url=server.base_url, db=db, conversation="c") as chat:
        before = chat.fetch_messages()
        found = ""
        for draft in chat.interrupted():
            question = [
                r.data["message"]["content"] for r in chat.events() if r.data.get("request") == draft.request
            ]
            came = json.loads(draft.partial)["content"] if draft.partial else ""
            if question[0].startswith("stream") and pieces:
                # The draft is a prefix of what was shown, or a little longer than what was read here.
                shown = "".join(pieces)
                assert came.startswith(shown) or shown.startswith(came)
            if choice == "keep":
                chat.keep(draft)
                kept = chat.fetch_messages()
                if came:
                    assert kept == [*before, *_asked(question), {"role": "assistant", "content": came}]
                    found = "kept"
                else:
                    assert kept == before
            else:
                chat.drop(draft)
                assert chat.fetch_messages() == before
                if choice == "retry":
                    answer = chat.retry()
                    assert chat.fetch_messages() == [
                        *before,
                        *_asked(question),
                        {"role": "assistant", "content": answer},
                    ]
            found = found or choice
            before = chat.fetch_messages()
        assert chat.interrupted() == []
        assert chat.request("自然数1的后面是几?") == "2"
        assert chat.fetch_messages()[:-2] == before
        assert chat.engine.verify().ok
    return found


def _asked(question: list[str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in question]


def kill_often(times: int, folder: Path, server: OfflineServer) -> set[str]:
    chance = random.Random()
    seed = chance.randrange(1 << 30)
    chance.seed(seed)
    print(f"seed {seed}")  # shown if the test fails
    found: set[str] = set()
    for number in range(times):
        where = folder / str(number // 4)  # four writers in turn use one store
        where.mkdir(exist_ok=True)
        found.add(kill_and_look(where, server, chance, ("keep", "drop", "retry")[number % 3]))
    return found


def test_killed_writer_loses_nothing_acknowledged(tmp_path: Path, server: OfflineServer) -> None:
    kill_often(FEW, tmp_path, server)


@pytest.mark.torture
def test_many_killed_writers_lose_nothing_acknowledged(tmp_path: Path, server: OfflineServer) -> None:
    found = kill_often(MANY, tmp_path, server)
    assert {"kept", "drop", "retry"} <= found


def test_answer_of_a_killed_stream_can_be_kept(tmp_path: Path, server: OfflineServer) -> None:
    """What was shown more than a second ago is in the draft."""
    script = """
import sys
from openai2 import Chat
chat = Chat("sk-fake", "m", base_url=sys.argv[2], db=sys.argv[1], conversation="c")
for piece in chat.stream_request("long " * 2000):
    print(piece, end="", flush=True)
"""
    victim = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "a.db"), server.base_url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    with Engine(tmp_path / "a.db") as engine:

        def on_disk() -> bytes:
            with engine.store.reading() as reader:
                return b"".join(draft.partial or b"" for draft in reader.drafts())

        assert victim.stdout is not None
        while len(on_disk()) < 100:
            assert victim.stdout.read(1), "it ended before a draft was on disk"
    victim.kill()
    rest = victim.stdout.read()
    victim.stdout.close()
    victim.wait(30)
    assert rest is not None
    with Chat("sk-fake", "m", base_url=server.base_url, db=tmp_path / "a.db", conversation="c") as chat:
        assert chat.fetch_messages() == []
        (draft,) = chat.interrupted()
        chat.keep(draft)
        question, answer = chat.fetch_messages()
        assert question["content"] == "long " * 2000
        assert len(answer["content"]) > 20
        stopped = [*chat.events()][-1]
        assert (stopped.type, stopped.data["reason"]) == ("request_stopped", "recovered")


def test_open_request_of_a_live_process_is_not_interrupted(tmp_path: Path, server: OfflineServer) -> None:
    with Chat("sk-fake", "m", base_url=server.base_url, db=tmp_path / "a.db", conversation="c") as chat:
        stream = chat.stream_request("hello")
        first = next(stream)
        with Engine(tmp_path / "a.db", synchronous="NORMAL") as other:  # as another process would
            assert other.open("c").interrupted() == []
        rest = "".join(stream)
        assert chat.fetch_messages()[-1]["content"] == first + rest
