"""What is compared with what, and how much it may be: the rows of the table."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """*ours* and *floor* name benchmarks; *target* bounds their ratio, or the value itself without a floor.

    *faster*: the ratio is that of speeds, floor by ours, and the target is the least. Without a *target*
    the row is there to be looked at.
    """

    program: str
    what: str
    ours: str
    floor: str | None
    beside: str
    target: float | None
    faster: bool = False


SAME = "raw sqlite3, same rows"
CREATE = "bare `openai` client, `create`, nothing stored"
RAW = "raw sqlite3"
_CLICK, _CLICK_SQL = "`python -c 'import click'`", "`python -c 'import click, sqlite3'`"

ROWS = (
    Row("request", "`request`, five rounds from an empty start, CPU", "request", "request floor", CREATE,
        0.9),
    Row("request", "the client's own `post` instead, nothing stored", "request-post", "request floor",
        CREATE, None),
    Row("request", "with 100 messages in view, CPU", "request-100", "request-100 floor", CREATE, None),
    Row("request", "with 2,000 messages in view, CPU", "request-2000", "request-2000 floor", CREATE, 0.03),
    Row("stream", "stream of 5,000 chunks, CPU", "stream", "stream floor", CREATE, 0.25),
    Row("stream", "200 chunks, 2 ms apart, CPU", "stream-paced", "stream-paced floor", CREATE, None),
    Row("concurrent", "1,000 async requests, 50 at a time, requests/s", "async", "async floor",
        "bare `AsyncOpenAI`, nothing stored", 1.5, faster=True),
    Row("concurrent", "the client's own `post` instead, nothing stored", "async-post", "async floor",
        "bare `AsyncOpenAI`, nothing stored", None, faster=True),
    Row("concurrent", "its `create` over aiohttp instead, nothing stored", "async-aiohttp", "async floor",
        "bare `AsyncOpenAI`, nothing stored", None, faster=True),
    Row("append", "append of a turn, FULL", "append-full", "append-full floor", SAME, 1.3),
    Row("append", "append of a turn, NORMAL", "append-normal", "append-normal floor", SAME, 1.3),
    Row("append", "the same by `add_dialogs`, FULL", "append-full-chat", "append-full floor",
        SAME, None),
    Row("append", "the same by `add_dialogs`, NORMAL", "append-normal-chat", "append-normal floor",
        SAME, None),
    Row("append", "64 tasks append 4 turns each, FULL, turns/s", "append-64", "append-64 floor",
        RAW + ", a commit a turn", 3, faster=True),
    Row("load", "load a view of 20,000 messages, fresh process", "load", "load floor", RAW + " and json",
        0.7),
    Row("load", "the last 20 of them, fresh process", "last", "last floor", RAW + " and json", 2),
    Row("load", "the last 20 of them, store open", "last-open", "last-open floor",
        RAW + " and json, open", None),
    Row("load", "open 1,000,000 events, 20 in view", "past", "past floor", "1,000 events, the same view",
        1.5),
    Row("load", "state at any version of 20,000 events, all in view", "at-long", "at-long floor",
        "loading the view", 1.5),
    Row("load", "state at any version of 20,000 events, 20 in view", "at-short", "at-short floor",
        "loading the view", 1.5),
    Row("change", "fork anywhere", "fork", "change floor", "one raw insert", 4),
    Row("change", "fork into a store just opened", "fork-first", "fork-first floor",
        "one raw insert, database just opened", 2),
    Row("change", "its bytes in the write-ahead log", "fork-first-wal", None, "", 8240),
    Row("change", "rollback of 1,000 rounds", "rollback", "change floor", "one raw insert", 4),
    Row("change", "restore", "restore", "change floor", "one raw insert", 4),
    Row("change", "bytes of a fork", "fork-bytes", None, "", 1024),
    Row("change", "bytes of a rollback of 1,000 rounds", "rollback-bytes", None, "", 1024),
    Row("change", "bytes of a restore", "restore-bytes", None, "", 1024),
    Row("space", "bytes stored a message", "bytes", "bytes floor", RAW + ", a row a message", 1.25),
    Row("space", "the same", "bytes", "bytes-rows floor", SAME, None),
    Row("lists", "list 20 of 1,000,000 conversations", "list", "list floor", RAW, 1.5),
    Row("lists", "search in 1,000,000 messages", "search", "search floor", "FTS5, same words", 1.5),
    Row("verify", "verify 100,000 events", "verify", "verify floor", RAW + " and hashlib, same bytes", 1.5),
    Row("commands", "`openai2 --version`", "openai2 version", "click", _CLICK, 1.5),
    Row("commands", "`openai2 --help`", "openai2 help", "click", _CLICK, 1.5),
    Row("commands", "completion of a command", "openai2 complete", "click", _CLICK, 1.5),
    Row("commands", "`openai2 list`", "openai2 list", "click-sqlite3", _CLICK_SQL, 2),
    Row("commands", "`openai2 show`", "openai2 show", "click-sqlite3", _CLICK_SQL, 2),
    Row("commands", "`openai2 search`", "openai2 search", "click-sqlite3", _CLICK_SQL, 2),
    Row("commands", "`import openai2`", "import", "pass", "`python -c pass`", 2),
    Row("space", "memory of 10,000 open Chats of 20 messages", "memory", "memory floor",
        "the messages as dicts", 2),
    Row("concurrent", "event loop stalls, 50 streams that commit, 95th percentile", "stalls", None, "",
        0.005),
)  # fmt: skip

PROGRAMS = tuple(dict.fromkeys(row.program for row in ROWS))
