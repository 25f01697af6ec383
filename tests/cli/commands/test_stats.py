"""`stats`: usage by key, model or day."""

from __future__ import annotations

import json

from tests.support.cli import KEY, invoke, ok, refused


def test_stats_counts_requests_failures_and_tokens(db: str) -> None:
    server = ("--base-url", "http://127.0.0.1:1/v1", "--key", KEY)
    invoke("chat", "-c", "数数", *server, "-m", "gone", "x", "--db", db)
    usage = {line["name"]: line for line in json.loads(ok("stats", "--json", "--db", db))}
    assert (usage["m"]["requests"], usage["m"]["failures"]) == (3, 0)
    assert (usage["gone"]["requests"], usage["gone"]["failures"]) == (1, 1)
    lines = ok("stats", "--db", db).splitlines()
    assert lines[0].split() == ["model", "requests", "failed", "sent", "received", "seconds"]
    assert lines[1].startswith("m ") and "####" in lines[1] and "#" not in lines[2]
    for by in ("key", "day"):
        assert ok("stats", "--by", by, "--db", db).splitlines()[0].startswith(by)
    assert "#" in ok("stats", "--by", "day", "--db", db)


def test_stats_of_an_empty_database() -> None:
    assert json.loads(ok("stats", "--json")) == []
    assert "no requests yet" in invoke("stats").stderr
    refused("stats", "--by", "week", status=2)
