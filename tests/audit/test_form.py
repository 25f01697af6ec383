"""What the format does not allow, under right hashes: refused by import, named by verify, printed as data."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from openai2 import ArchiveError, Engine, NotAMessage, user_msg
from openai2.store import NO_HASH, codec
from tests.support.cli import invoke, ok, refused
from tests.support.stores import plain

ID, TIME = "0123456789abcdef", "2026-11-22T10:05:00.000000Z"
DEEP = "[" * 501 + "]" * 501
CREATED = ("created", "{}")
ADDED = ("message_added", '{"message":{"role":"user","content":"hi"}}')
Rows = list[tuple[str, int, int, str, str, str, bytes]]

CRAFTED = {
    "escape sequence as id": ("\x1b]0;owned\x07", TIME, ADDED),
    "empty id": ("", TIME, ADDED),
    "letter that ids lack": ("0123456789abcdei", TIME, ADDED),
    "long id": (ID + "0", TIME, ADDED),
    "escape sequence as time": (ID, "\x1b[31m", ADDED),
    "no such day": (ID, "2026-02-30T10:05:00.000000Z", ADDED),
    "time without microseconds": (ID, "2026-11-22T10:05:00Z", ADDED),
    "time elsewhere": (ID, "2026-11-22T10:05:00.000000+08:00", ADDED),
    "deep data": (ID, TIME, ("message_added", f'{{"message":{{"role":"user","content":"x","y":{DEEP}}}}}')),
}


def chained(conversation: str, time: str, *events: tuple[str, str]) -> Rows:
    """A stream with right hashes, whatever is in it."""
    rows: Rows = []
    link = NO_HASH
    for version, (tag, data) in enumerate(events, 1):
        link = codec.link(link, codec.digest(data.encode()), conversation, version, version, tag, time)
        rows.append((conversation, version, version, tag, data, time, link))
    return rows


def archive(rows: Rows) -> bytes:
    heads = {row[0]: row[-1].hex() for row in rows}
    names = "conversation version batch type time data hash".split()
    lines: list[dict[str, object]] = [
        {"openai2": "archive", "format": 1, "conversations": len(heads), "events": len(rows)}
    ]
    for conversation, version, batch, tag, data, time, link in rows:
        values = (conversation, version, batch, tag, time, data, link.hex())
        lines.append(dict(zip(names, values, strict=True)))
    lines.append({"heads": heads})
    return b"".join(
        json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for line in lines
    )


def test_sound_archive_of_this_kind_is_imported(engine: Engine) -> None:
    assert engine.import_(io.BytesIO(archive(chained(ID, TIME, CREATED, ADDED)))).events == 2
    assert engine.verify().ok


@pytest.mark.parametrize("crafted", CRAFTED)
def test_import_refuses_what_the_format_does_not_allow(crafted: str, tmp_path: Path) -> None:
    conversation, time, event = CRAFTED[crafted]
    raw = archive(chained(conversation, time, CREATED, event)).replace(b"\x1b", b"\\u001b")
    raw = raw.replace(b"\x07", b"\\u0007")
    with Engine() as engine:
        with pytest.raises(ArchiveError):
            engine.import_(io.BytesIO(raw))
        assert engine.heads() == {}
    (tmp_path / "crafted.jsonl").write_bytes(raw)
    line = refused("import", str(tmp_path / "crafted.jsonl"), "--db", str(tmp_path / "new.db"))
    assert "\x1b" not in line and "line" in line


@pytest.mark.parametrize("crafted", CRAFTED)
def test_verify_names_it_and_the_command_prints_it_as_data(crafted: str, tmp_path: Path) -> None:
    conversation, time, event = CRAFTED[crafted]
    path = tmp_path / "crafted.db"
    with Engine(path) as engine:
        engine.create("sound").add([user_msg("hello")])
    with plain(path, unguarded=True) as sql:
        for row in chained(conversation, time, CREATED, event):
            sql.execute("INSERT INTO events SELECT max(position) + 1, ?, ?, ?, ?, ?, ?, ? FROM events", row)
    with Engine(path) as engine:
        engine.rebuild()
        problems = [problem for problem in engine.verify().problems if problem.conversation is not None]
        assert {problem.conversation for problem in problems} == {conversation}
        assert len(problems) == 1 and problems[0].version == (2 if crafted == "deep data" else 1)
    assert "sound" in ok("list", "--db", str(path))
    for command in (("list",), ("head", "--all"), ("verify",), ("log", conversation), ("show", conversation)):
        result = invoke(*command, "--db", str(path))
        assert "\x1b" not in result.output and "Traceback" not in result.output


def test_fork_with_wrong_base_is_refused(engine: Engine) -> None:
    parent = chained(ID, TIME, CREATED, ADDED)
    data = json.dumps({"parent": ID, "version": 2, "base": 7}, separators=(",", ":"))
    fork = "0123456789abcdeg"
    link = codec.link(parent[-1][-1], codec.digest(data.encode()), fork, 1, 1, "forked", TIME)
    raw = archive([*parent, (fork, 1, 1, "forked", data, TIME, link)])
    with pytest.raises(ArchiveError, match="numbers go on from 7, not from 2"):
        engine.import_(io.BytesIO(raw))


def test_message_that_is_nested_too_deep_is_not_recorded(engine: Engine) -> None:
    deep: object = "x"
    for _ in range(495):
        deep = [deep]
    conversation = engine.create()
    with pytest.raises(NotAMessage, match="nested too deeply"):
        conversation.add([{"role": "user", "content": "x", "y": deep}])
    brackets = user_msg("[" * 5000 + '\\"{')
    conversation.add([brackets])
    assert conversation.messages() == [brackets] and engine.verify().ok
