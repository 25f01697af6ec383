"""A full-text index beside a store's own, in a database that is gone when it is closed.

It says whether a query can be read, marks what was found, and holds what the store's own index has not
read where the store cannot be written to. It spills to the disk where it grows.

Rule: it cuts and ranks as the store's own index does, with the same statements.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from openai2 import terms
from openai2.errors import BadInput
from openai2.store import schema, search
from openai2.store.reader import Reader

# The same words as in the index, but with the text, so that FTS5 can say where they stand.
_SHOWN = schema.SEARCH.replace("search", "shown").replace("content = '', ", "")


class Aside:
    """An index of one search's own. Raises StoreUnavailable where this SQLite cannot search."""

    def __init__(self) -> None:
        self._sql = sqlite3.connect("", isolation_level=None)
        search.check_fts5(self._sql)
        self._sql.execute("PRAGMA synchronous = OFF")
        self._sql.execute(_SHOWN)
        self.holds_rest = False

    def close(self) -> None:
        """Give the space back."""
        self._sql.close()

    def check(self, query: str) -> None:
        """Raise BadInput where FTS5 cannot read the query."""
        try:
            self._sql.execute("SELECT 1 FROM shown WHERE shown MATCH ?", (query,)).fetchone()
        except sqlite3.OperationalError as fault:
            raise BadInput(
                "the query cannot be read: {reason}", reason=str(fault).removeprefix("fts5: ")
            ) from None

    def take_rest(self, reader: Reader) -> None:
        """Index what the store's own index has not read."""
        after, end = search.reached(reader) or 0, reader.last_position()
        self._sql.execute(schema.SEARCH)
        self.holds_rest = True
        self._sql.execute("BEGIN")
        while after < end:
            batch, after = search.batch_of(reader, after, end)
            self._sql.executemany("INSERT INTO search (rowid, text) VALUES (?, ?)", batch)
        self._sql.execute("COMMIT")

    def hits(self, query: str, first: int = 0, last: int = 1 << 62) -> Iterator[search.Hit]:
        """What was taken, in the order of `hits`; the ranks are those of this part alone."""
        if self.holds_rest:
            yield from search.ranked(self._sql, query, first, last, None)

    def marks(self, query: str, texts: Sequence[str]) -> list[terms.Spans]:
        """Where in each of the texts the words of the query stand."""
        self._sql.execute("BEGIN")
        self._sql.executemany(
            "INSERT INTO shown (rowid, text) VALUES (?, ?)",
            [(row, terms.markable(text)) for row, text in enumerate(texts)],
        )
        found = dict(
            self._sql.execute(
                "SELECT rowid, highlight(shown, 0, ?, ?) FROM shown WHERE shown MATCH ?",
                (terms.OPEN, terms.CLOSE, query),
            ).fetchall()
        )
        self._sql.execute("ROLLBACK")
        return [terms.spans(text, found.get(row, "")) for row, text in enumerate(texts)]
