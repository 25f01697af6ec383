"""Rows that were tampered with: reading them raises DamagedStore, with advice, and the list still works."""

from __future__ import annotations

import contextlib
import io
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from openai2 import Conversation, Engine, Openai2Error, user_msg
from openai2.cli.terminal.i18n import error_message
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import request_events
from openai2.errors import DamagedStore, Refused
from openai2.store import Draft
from tests.support.cli import invoke
from tests.support.stores import busy, long, plain

KEYS = {
    "events": "position",
    "conversations": "id",
    "snapshots": "conversation",
    "cursors": "name",
    "drafts": "conversation",
}
VALUES: list[object] = [
    *(
        None,
        0,
        -1,
        2**62,
        1.5,
        "",
        "x",
        "\x1b]0;t\x07",
        b"\xff\xfe",
        "[",
        "null",
        "[" * 2000,
        "[]",
        '{"a":1}',
    ),
    *('{"message":' + "[" * 900 + "]" * 900 + "}", '{"version":99,"parent":"x","base":3}'),
    *('{"messages":[77]}', '{"spans":[[90,91]],"messages":1}', '{"spans":[[5,1]],"messages":1}'),
    *('{"message":1}', '{"message":{"role":"user","content":{}}}', '{"request":999}'),
]


def open_request(conversation: Conversation, partial: bytes) -> int:
    """A request whose process has ended, and its draft; returns the id of the request."""

    def begin(state: request_events.StreamState) -> list[ev.Event]:
        question = [msg.encode(user_msg("q"), "it")]
        return request_events.begin(request_events.RequestSpec(question=question, model="m"), state)[0]

    request = conversation.commit(begin)[0].version
    draft = Draft(conversation.id, request, "gone 1 1", 0.0, partial)
    conversation.store.transact(lambda tx: tx.put_draft(draft))
    return request


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "whole.db"
    with Engine(path) as engine:
        engine.redact("side", busy(engine)["side"].view().ids[-1])
        long(engine, size=30)
        engine.search("one")
        open_request(engine.create("cut"), b'{"role":"assistant","content":"half"}')
        engine.conversations()
    with plain(path) as sql:
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def readings(engine: Engine) -> Iterator[Callable[[], object]]:
    """Everything that reads; each may raise errors of openai2 only."""
    yield from (engine.verify, engine.heads, engine.current, engine.stats, lambda: engine.search("one"))
    for format_ in ("events", "html"):
        yield partial(engine.export, None, file=io.BytesIO(), format=format_)
    yield lambda: engine.diff("main", "side")
    for name in ("main", "side", "group", "long"):
        try:
            c = engine.open(name)
        except Openai2Error:
            continue
        yield from (c.messages, c.view_messages, c.group_state, c.why, c.settings, c.last_round, c.undo)
        yield from (partial(c.messages, 2), partial(c.at, 3), partial(c.at, "2030-01-01"))
        yield from (partial(_decode_events, c), partial(engine.family, c.id))
        yield from (c.rollback, partial(c.add, [user_msg("more")]), c.fork)
    yield partial(_keep, engine)
    yield from (lambda: engine.redact("main", 2), lambda: engine.delete("group"), engine.rebuild)


def _keep(engine: Engine) -> None:
    conversation = engine.open("cut")
    for draft in conversation.interrupted():
        conversation.keep(draft)


def _decode_events(conversation: Conversation) -> None:
    for record in conversation.events():
        assert record.event.type == record.type and isinstance(record.data, dict)


def tamper(path: Path, chance: random.Random) -> None:
    table = chance.choice(["events"] * 6 + ["conversations", "snapshots", "cursors", "drafts"])
    with plain(path, unguarded=True) as sql:
        sql.execute("PRAGMA ignore_check_constraints = 1")
        columns = [row[1] for row in sql.execute(f"PRAGMA table_info({table})")]
        column = chance.choice([*columns, *["data"] * 5 * (table == "events")])
        keys = [row[0] for row in sql.execute(f"SELECT {KEYS[table]} FROM {table}")]
        value = chance.choice(VALUES)
        new = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
        if keys:
            key = chance.choice(keys)
            sql.execute(
                f"UPDATE OR IGNORE {table} SET {column} = {new} WHERE {KEYS[table]} = ?", (value, key)
            )
        if chance.random() < 0.5:
            sql.execute("UPDATE cursors SET position = 0 WHERE name = 'conversations'")


def _read_with_advice(read: Callable[[], object]) -> None:
    try:
        read()
    except DamagedStore as error:
        if "run `openai2 " not in str(error) or str(error) != error_message(error):
            raise AssertionError(str(error)) from error


def check_tampered(whole: Path, path: Path, seed: int) -> None:
    shutil.copy(whole, path)
    try:
        tamper(path, random.Random(seed))
    except Exception:  # noqa: BLE001 - the constraints refuse the value
        return
    result = invoke("list", "--all", "--db", str(path))
    assert result.exit_code == 0 and "\x1b" not in result.output, (seed, result.output)
    with Engine(path) as engine:
        assert len(engine.conversations(None)) >= 6
        for read in readings(engine):
            with contextlib.suppress(Openai2Error):
                _read_with_advice(read)


def test_tampered_row_raises_damaged_store_and_hides_no_other(whole: Path, tmp_path: Path) -> None:
    for seed in range(40):
        check_tampered(whole, tmp_path / f"{seed}.db", seed)


@pytest.mark.torture
def test_many_tampered_rows_raise_damaged_store(whole: Path, tmp_path: Path) -> None:
    for seed in range(100, 3000):
        check_tampered(whole, tmp_path / "tampered.db", seed)


def test_exception_of_the_caller_is_not_damage(whole: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise ValueError("mine")

    with Engine(whole) as engine:
        with pytest.raises(ValueError, match="mine"):
            engine.export(None, file=io.BytesIO(), progress=progress)
        file = io.BytesIO()
        file.close()
        with pytest.raises(ValueError, match="closed file"):
            engine.export(None, file=file)


def test_damaged_draft_is_not_written_to_the_log(engine: Engine) -> None:
    for number, close in enumerate((Conversation.keep, Conversation.drop)):
        conversation = engine.create(f"cut {number}")
        open_request(conversation, b"{broken")
        (draft,) = conversation.interrupted()
        close(conversation, draft)
        assert conversation.messages() == [] and engine.verify().ok
        with pytest.raises(Refused):
            close(conversation, draft)
