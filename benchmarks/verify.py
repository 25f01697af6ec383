"""Verify, beside a loop over the rows that hashes the same bytes."""

from __future__ import annotations

import sqlite3
from hashlib import sha256

from benchmarks import worlds
from benchmarks.harness import Bench, Work

EVENTS = 100_000


def raw() -> Work:
    """Read all rows, compute the hashes as docs/format.md specifies, and compare."""
    sql = sqlite3.connect(worlds.turns(EVENTS))

    def work() -> None:
        rows = sql.execute(
            "SELECT conversation, version, batch, type, CAST(data AS BLOB), time, hash FROM events"
            " ORDER BY position"
        )
        heads: dict[str, bytes] = {}
        for conversation, version, batch, kind, data, time, link in rows:
            previous = heads.get(conversation, bytes(32))
            fields = f"{conversation}\0{version}\0{batch}\0{kind}\0{time}".encode()
            digest = sha256(data).digest()
            assert sha256(b"openai2 event 1\0" + previous + digest + fields).digest() == link
            heads[conversation] = link

    return work


def verify() -> Work:
    """Run `Engine.verify`: chain, content, references and derived tables."""
    from openai2 import Engine

    engine = Engine(worlds.turns(EVENTS))

    def work() -> None:
        assert engine.verify().ok

    return work


if __name__ == "__main__":
    with Bench("verify") as bench:
        bench.once("verify floor", raw)
        bench.once("verify", verify)
