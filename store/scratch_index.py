"""Full-text tables beside a store's own index, in databases that end when they are closed.

Invariant: they cut and rank as the store's own index does, with the same statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager

from openai2.errors import BadInput
from openai2.store import fulltext, schema, tokenizer
from openai2.store.reader import Reader

# Like the index, but with the text, so that FTS5 can return the places of the words.
_SHOWN = schema.SEARCH.replace("search", "shown").replace("content = '', ", "")
_MARK = (
    f"SELECT rowid, highlight(shown, 0, '{tokenizer.OPEN}', '{tokenizer.CLOSE}')"
    " FROM shown WHERE shown MATCH ?"
)


class Marker:
    """Find words in a few texts, in memory; the texts are dropped at once."""

    def __init__(self) -> None:
        self._sql = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        fulltext.check_fts5(self._sql)
        self._sql.execute(_SHOWN)

    def close(self) -> None:
        """Free the memory."""
        self._sql.close()

    def check(self, query: str) -> None:
        """Raise BadInput if FTS5 cannot parse the query."""
        try:
            self._sql.execute("SELECT 1 FROM shown WHERE shown MATCH ?", (query,)).fetchone()
        except sqlite3.OperationalError as fault:
            raise BadInput(
                "cannot parse the query: {reason}", reason=str(fault).removeprefix("fts5: ")
            ) from None

    def marks(self, query: str, texts: Sequence[str]) -> list[tokenizer.Spans]:
        """Return the places of the query's words in each text."""
        self._sql.execute("BEGIN")
        try:
            rows = enumerate(map(tokenizer.markable, texts))
            self._sql.executemany("INSERT INTO shown (rowid, text) VALUES (?, ?)", rows)
            found = dict(self._sql.execute(_MARK, (query,)).fetchall())
        finally:
            self._sql.execute("ROLLBACK")
        return [tokenizer.spans(text, found.get(row, "")) for row, text in enumerate(texts)]


_idle: list[Marker] = []
_MAX_IDLE = 4


@contextmanager
def marker() -> Generator[Marker, None, None]:
    """Lend a marker: to make one takes several times as long as to search."""
    try:
        found = _idle.pop()
    except IndexError:
        found = Marker()
    try:
        yield found
    finally:
        if len(_idle) < _MAX_IDLE:
            _idle.append(found)
        else:
            found.close()


class ScratchIndex:
    """An index, for one search, of what the index of a read-only store lacks; it may spill to the disk."""

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
        """Free the space."""
        self._sql.close()

    def hits(self, query: str, first: int = 0, last: int = 1 << 62) -> Iterator[fulltext.Hit]:
        """Return the hits in the order of `fulltext.hits`; the ranks hold for this part of the log only."""
        return fulltext.ranked(self._sql, query, first, last, None)
