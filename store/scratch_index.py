"""Full-text tables beside a store's own index, in databases that are gone when they are closed.

A `Marker` says whether a query can be read, and marks what was found. An `Aside` holds what the store's
index has not read where the store cannot be written to; it spills to the disk where it grows.

Rule: they cut and rank as the store's own index does, with the same statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from openai2.errors import BadInput
from openai2.store import fulltext, schema, tokenizer
from openai2.store.reader import Reader

# The same words as in the index, but with the text, so that FTS5 can say where they stand.
_SHOWN = schema.SEARCH.replace("search", "shown").replace("content = '', ", "")
_MARK = (
    f"SELECT rowid, highlight(shown, 0, '{tokenizer.OPEN}', '{tokenizer.CLOSE}')"
    " FROM shown WHERE shown MATCH ?"
)


class Marker:
    """Finds words in a few texts, in memory; the texts are forgotten at once."""

    def __init__(self) -> None:
        self._sql = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        fulltext.check_fts5(self._sql)
        self._sql.execute(_SHOWN)

    def close(self) -> None:
        """Give the memory back."""
        self._sql.close()

    def check(self, query: str) -> None:
        """Raise BadInput where FTS5 cannot read the query."""
        try:
            self._sql.execute("SELECT 1 FROM shown WHERE shown MATCH ?", (query,)).fetchone()
        except sqlite3.OperationalError as fault:
            raise BadInput(
                "the query cannot be read: {reason}", reason=str(fault).removeprefix("fts5: ")
            ) from None

    def marks(self, query: str, texts: Sequence[str]) -> list[tokenizer.Spans]:
        """Where in each of the texts the words of the query stand."""
        self._sql.execute("BEGIN")
        try:
            rows = enumerate(map(tokenizer.markable, texts))
            self._sql.executemany("INSERT INTO shown (rowid, text) VALUES (?, ?)", rows)
            found = dict(self._sql.execute(_MARK, (query,)).fetchall())
        finally:
            self._sql.execute("ROLLBACK")
        return [tokenizer.spans(text, found.get(row, "")) for row, text in enumerate(texts)]


_idle: list[Marker] = []
_MOST_IDLE = 4


@contextmanager
def marker() -> Generator[Marker, None, None]:
    """A marker that nobody else uses now: to make one takes several times as long as to search."""
    try:
        one = _idle.pop()
    except IndexError:
        one = Marker()
    try:
        yield one
    finally:
        if len(_idle) < _MOST_IDLE:
            _idle.append(one)
        else:
            one.close()


class Aside:
    """The rest of a log, indexed for one search."""

    def __init__(self, reader: Reader) -> None:
        self._sql = sqlite3.connect("", isolation_level=None)
        self._sql.execute("PRAGMA synchronous = OFF")
        self._sql.execute(schema.SEARCH)
        done, end = fulltext.state(reader)
        after = done or 0
        self._sql.execute("BEGIN")
        while after < end:
            batch, after = fulltext.batch_of(reader, after, end)
            self._sql.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", batch)
        self._sql.execute("COMMIT")

    def close(self) -> None:
        """Give the space back."""
        self._sql.close()

    def hits(self, query: str, first: int = 0, last: int = 1 << 62) -> Iterator[fulltext.Hit]:
        """What was taken, in the order of `search.hits`; the ranks are those of this part alone."""
        return fulltext.ranked(self._sql, query, first, last, None)
