"""Asked again, compared, and counted: replay, diff and stats."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from openai2 import Chat, Engine
from openai2.offline import OfflineServer
from tests.support.cli import COMMAND, KEY, TIMEOUT, Terminal, contents, environment, invoke, ok, refused

QUESTIONS = ("自然数50的后面是几?", "再往后是几?", "再往后呢?")


@pytest.fixture
def db(tmp_path: Path, server: OfflineServer) -> str:
    """A database with two conversations of three rounds each."""
    path = str(tmp_path / "talk.db")
    for name in ("数数", "再数"):
        with Chat(KEY, "m", db=path, conversation=name, base_url=server.base_url) as chat:
            for question in QUESTIONS:
                chat.request(question)
    return path


def shown(db: str, *args: str) -> list[str]:
    return contents(json.loads(ok("show", "--json", "--db", db, *args)))


# -- replay


def test_a_replay_on_another_model(db: str, server: OfflineServer) -> None:
    line = ok("replay", "数数", "--model", "other", "-o", "temperature", "0", "--db", db)
    fork, source, model = line.split()
    assert (source, model) == ("数数", "other")
    assert shown(db, fork) == shown(db, "数数")
    assert server.requests[-1].body["model"] == "other" and server.requests[-1].body["temperature"] == 0
    before = len(server.requests)
    assert ok("replay", "数数", "-m", "other", "-o", "temperature", "0", "--db", db) == line
    assert len(server.requests) == before, "what is complete is not asked again"


def test_a_replay_from_a_version_with_a_name_and_a_system_message(db: str, server: OfflineServer) -> None:
    before = len(server.requests)
    ok("replay", "数数", "--from", "8", "--name", "又一次", "--system", "你是诗人", "--db", db)
    assert len(server.requests) == before + 1
    assert shown(db, "又一次")[-1] == "53"
    assert "named 数数" in refused("replay", "再数", "--name", "数数", "--db", db)
    for args in (
        ["--all", "--name", "x"],
        ["数数", "再数", "--from", "1"],
        ["数数", "-m", "a", "-m", "b", "--name", "x"],
    ):
        assert "one conversation" in refused("replay", *args, "--db", db)
    refused("replay", "数数", "--all", "--db", db, status=2)
    assert "no version 99" in refused("replay", "数数", "--from", "99", "--db", db)


def test_many_replays_side_by_side(db: str) -> None:
    lines = ok("replay", "--all", "-m", "A", "-m", "B", "-j", "2", "--db", db).splitlines()
    assert sorted(line.split()[1:] for line in lines) == sorted(
        [name, model] for name in ("数数", "再数") for model in ("A", "B")
    )
    assert ok("verify", "--db", db) == ""


def test_a_server_that_is_not_there_leaves_nothing_and_says_so(db: str) -> None:
    before = ok("list", "--json", "--db", db)
    result = invoke("replay", "--all", "--base-url", "http://127.0.0.1:1/v1", "--db", db)
    assert result.exit_code == 1 and result.stdout == ""
    assert "数数: " in result.stderr and "2 replays are incomplete" in result.stderr
    assert ok("list", "--json", "--db", db) == before


def test_a_replay_that_is_stopped_goes_on_later(db: str, server: OfflineServer) -> None:
    with OfflineServer(delay=0.4) as slow:
        replaying = subprocess.Popen(
            [*COMMAND, "replay", "数数", "-m", "slow", "--base-url", slow.base_url, "--db", db],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        guard = threading.Timer(TIMEOUT, replaying.kill)
        guard.start()
        while len(slow.requests) < 2:
            assert replaying.poll() is None
        replaying.send_signal(signal.SIGINT)
        _, told = replaying.communicate()
        guard.cancel()
        assert replaying.returncode == 130 and b"continues with what is missing" in told
    before = len(server.requests)
    (fork,) = [line.split()[0] for line in ok("replay", "数数", "-m", "slow", "--db", db).splitlines()]
    assert shown(db, fork) == shown(db, "数数")
    assert 0 < len(server.requests) - before < 3
    assert ok("verify", "--db", db) == ""


@pytest.mark.parametrize("how", [("--name", "又一次"), ("-m", "other")])
def test_how_far_one_replay_is_shows_on_a_terminal(db: str, how: tuple[str, str]) -> None:
    with (
        OfflineServer(delay=0.4) as slow,
        Terminal("replay", "数数", *how, "--base-url", slow.base_url, "--db", db) as terminal,
    ):
        terminal.child.expect(r"replaying \[#+\.*\] \d/3")
        terminal.child.expect("数数")
        terminal.child.wait()
    assert ok("verify", "--db", db) == ""


# -- diff


def test_diff(db: str) -> None:
    with Engine(db) as engine:
        engine.open("再数").rollback(1)
    ok("chat", "-c", "再数", "世界上最大的海洋是哪个?", "--db", db)
    ok("replay", "数数", "-m", "other", "--name", "新", "--db", db)
    found = json.loads(ok("diff", "数数", "再数", "--json", "--db", db))
    assert (found["same"], found["only_a"], found["only_b"]) == (2, 1, 1)
    lines = ok("diff", "数数", "再数", "--db", db).splitlines()
    assert lines[0].split(" | ")[1].startswith("再数@")
    assert "= 自然数50的后面是几?" in lines and "< 再往后呢?" in lines
    assert "> 世界上最大的海洋是哪个?" in lines
    assert all(len(line) <= 80 for line in lines)
    assert json.loads(ok("diff", "数数", "新@5", "--json", "--db", db))["b"]["version"] == 5
    assert "there is no conversation nobody" in refused("diff", "数数", "nobody", "--db", db)


@pytest.mark.parametrize("columns", ["40", "100"])
def test_what_changed_is_marked_in_words(db: str, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    file = Path(db).with_name("other.json")
    file.write_text(
        json.dumps([{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": "五十二"}])
    )
    other = ok("import", str(file), "--db", db).split()[0]
    text = ok("diff", "数数@4", other, "--db", db)
    assert "~ 自然数50的后面是几?" in text
    assert "[-51-]" in text and "{+五十二+}" in text


def test_nothing_in_common(db: str) -> None:
    ok("newchat", "-c", "别的", "世界上最大的海洋是哪个?", "--db", db)
    assert "no question in common" in refused("diff", "数数", "别的", "--db", db)


# -- stats


def test_stats(db: str) -> None:
    invoke("chat", "-c", "数数", "--base-url", "http://127.0.0.1:1/v1", "-m", "gone", "x", "--db", db)
    found = {line["name"]: line for line in json.loads(ok("stats", "--json", "--db", db))}
    assert (found["m"]["requests"], found["m"]["failures"]) == (6, 0)
    assert (found["gone"]["requests"], found["gone"]["failures"]) == (1, 1)
    lines = ok("stats", "--db", db).splitlines()
    assert lines[0].split() == ["model", "requests", "failed", "sent", "received", "seconds"]
    assert lines[1].startswith("m ") and "####" in lines[1] and "#" not in lines[2]
    for by in ("key", "day"):
        assert ok("stats", "--by", by, "--db", db).splitlines()[0].startswith(by)
    assert "#" in ok("stats", "--by", "day", "--db", db)


def test_stats_of_nothing(tmp_path: Path) -> None:
    assert json.loads(ok("stats", "--json")) == []
    assert "no requests yet" in invoke("stats").stderr
    refused("stats", "--by", "week", status=2)
