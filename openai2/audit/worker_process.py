"""The chain, read in a process of its own (see `beside`): what is imported and done there.

Rules: it is asked over stdin and answers over stdout, a line at a time. Nothing that decodes events is
imported before there is one to decode: it has to begin soon.
"""

from __future__ import annotations

import os
import sys
import threading
from time import monotonic

from openai2.audit.chain import ChainCheck, Found
from openai2.audit.prescan import Beforehand
from openai2.sentence import Sentence
from openai2.store import Reader, SqliteStore
from openai2.store.audit_reader import Scan

#: What is said: it goes on; something does not fit; so many events fit, and where the heads stand.
ALIVE, UNSOUND, SOUND = b"alive", b"unsound", b"sound"
#: What is asked, after a line with the path and one with the heads, in hex: take the present moment; read.
BEGIN, GO = b"begin", b"go"


class Unsound(Exception):
    """Something in the chain does not fit."""


def main() -> None:
    """Do what stdin says."""
    ask = sys.stdin.buffer
    path, heads = os.fsdecode(bytes.fromhex(ask.readline().decode())), ask.readline().split()
    if not os.path.exists(path):
        return  # to open it would make it
    with SqliteStore(path).reading(still=True) as reader:
        _say(ALIVE)
        while (word := ask.readline().strip()) == BEGIN:
            begin_anew(reader)
            reader.reaches_past(0)
            _say(ALIVE)
        if word == GO:
            threading.Thread(target=_end_with_the_other, daemon=True).start()
            _say(verdict(Scan(reader), {bytes.fromhex(head.decode()) for head in heads}))


def begin_anew(reader: Reader) -> None:
    """End the transaction of a reader and begin another one, which sees what was committed meanwhile."""
    reader.sql.execute("ROLLBACK")
    reader.sql.execute("BEGIN")


def verdict(scan: Scan, heads: set[bytes]) -> bytes:
    """What is said of a chain in the end."""
    chain = ChainCheck(scan, _unsound, Beforehand(scan.redactions()))
    try:
        found = chain.read(scan.rows(), heads, _Alive())
    except Unsound:
        return UNSOUND
    if chain.holes:
        return UNSOUND
    places = (
        b"%b:%b:%d" % (head.hex().encode(), name.hex().encode(), version)
        for head, all_ in found.items()
        for name, version in all_
    )
    return b" ".join((SOUND, b"%d" % chain.count, *places))


def read_verdict(line: bytes, heads: set[bytes]) -> tuple[int, Found] | None:
    """How many events fit, and where the heads stand; None where that is not what was said."""
    if not line.startswith(SOUND):
        return None
    count, *places = line.split()[1:]
    found: Found = {head: [] for head in heads}
    for place in places:
        head, name, version = place.decode().split(":")
        found[bytes.fromhex(head)].append((bytes.fromhex(name), int(version)))
    return int(count), found


def _unsound(
    what: Sentence,
    conversation: str | None = None,
    version: int | None = None,
    position: int | None = None,
) -> None:
    raise Unsound


class _Alive:
    """Says every second that the reading goes on."""

    def __init__(self) -> None:
        self._said = monotonic()

    def __call__(self, done: int) -> None:
        if monotonic() - self._said > 1.0:
            self._said = monotonic()
            _say(ALIVE)


def _say(word: bytes) -> None:
    sys.stdout.buffer.write(word + b"\n")
    sys.stdout.buffer.flush()


def _end_with_the_other() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)  # nobody holds the other end any more
