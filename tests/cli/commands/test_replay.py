"""`replay`: questions asked again in forks."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from openai2 import Chat
from openai2.offline import OfflineServer
from tests.support.cli import KEY, QUESTIONS, Terminal, invoke, ok, refused, shown, started


@pytest.fixture
def db(tmp_path: Path, server: OfflineServer) -> str:
    """A database with two conversations of three rounds each, 数数 and 再数."""
    path = str(tmp_path / "talk.db")
    for name in ("数数", "再数"):
        with Chat(KEY, "m", db=path, conversation=name, base_url=server.base_url) as chat:
            for question in QUESTIONS:
                chat.request(question)
    return path


def test_replay_asks_another_model_once(db: str, server: OfflineServer) -> None:
    line = ok("replay", "数数", "--model", "other", "-o", "temperature", "0", "--db", db)
    fork, source, model = line.split()
    assert (source, model) == ("数数", "other")
    assert shown(db, fork) == shown(db, "数数")
    assert server.requests[-1].body["model"] == "other" and server.requests[-1].body["temperature"] == 0
    before = len(server.requests)
    assert ok("replay", "数数", "-m", "other", "-o", "temperature", "0", "--db", db) == line
    assert len(server.requests) == before, "a complete replay asks nothing"


def test_replay_starts_at_a_version_with_name_and_system(db: str, server: OfflineServer) -> None:
    before = len(server.requests)
    ok("replay", "数数", "--from", "8", "--name", "又一次", "--system", "你是诗人", "--db", db)
    assert len(server.requests) == before + 1
    assert shown(db, "又一次")[-1] == "53"
    assert "数数" in refused("replay", "再数", "--name", "数数", "--db", db)
    assert "no version 99" in refused("replay", "数数", "--from", "99", "--db", db)


@pytest.mark.parametrize("args", ["--all --name x", "数数 再数 --from 1", "数数 -m a -m b --name x"])
def test_replay_options_for_one_fork_refuse_several(db: str, args: str) -> None:
    assert "one conversation" in refused("replay", *args.split(), "--db", db)
    refused("replay", "数数", "--all", "--db", db, status=2)


def test_replay_runs_conversations_and_models_in_parallel(db: str) -> None:
    lines = ok("replay", "--all", "-m", "A", "-m", "B", "-j", "2", "--db", db).splitlines()
    assert sorted(line.split()[1:] for line in lines) == sorted(
        [name, model] for name in ("数数", "再数") for model in ("A", "B")
    )
    assert ok("verify", "--db", db) == ""


def test_replay_without_server_leaves_no_fork(db: str) -> None:
    before = ok("list", "--json", "--db", db)
    result = invoke("replay", "--all", "--base-url", "http://127.0.0.1:1/v1", "--db", db)
    assert result.exit_code == 1 and result.stdout == ""
    assert "数数: " in result.stderr and "2 replays are incomplete" in result.stderr
    assert ok("list", "--json", "--db", db) == before


def test_interrupted_replay_continues_later(db: str, server: OfflineServer) -> None:
    with (
        OfflineServer(delay=0.4) as slow,
        started("replay", "数数", "-m", "slow", "--base-url", slow.base_url, "--db", db) as replaying,
    ):
        while len(slow.requests) < 2:
            assert replaying.poll() is None
        replaying.send_signal(signal.SIGINT)
        _, errors = replaying.communicate()
        assert replaying.returncode == 130 and "continues with what is missing" in errors
    before = len(server.requests)
    (fork,) = [line.split()[0] for line in ok("replay", "数数", "-m", "slow", "--db", db).splitlines()]
    assert shown(db, fork) == shown(db, "数数")
    assert 0 < len(server.requests) - before < 3
    assert ok("verify", "--db", db) == ""


@pytest.mark.parametrize("how", [("--name", "又一次"), ("-m", "other")])
def test_replay_shows_progress_on_a_terminal(db: str, how: tuple[str, str]) -> None:
    with (
        OfflineServer(delay=0.4) as slow,
        Terminal("replay", "数数", *how, "--base-url", slow.base_url, "--db", db) as terminal,
    ):
        terminal.child.expect(r"replaying \[#+\.*\] \d/3")
        terminal.child.expect("数数")
        terminal.child.wait()
    assert ok("verify", "--db", db) == ""
