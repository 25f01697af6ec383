"""`search`: messages by their words."""

from __future__ import annotations

import json

from tests.support.cli import ok, shown


def test_search_marks_words_and_leads_to_the_message(db: str) -> None:
    ok("rollback", "--db", db)
    text = ok("search", "往后", "--db", db)
    assert "数数@" in text and "再[往后]呢?" in text
    hits = json.loads(ok("search", "往后", "--json", "--db", db))
    assert all(list(hit) == ["conversation", "name", "version", "role", "text"] for hit in hits)
    assert {hit["text"] for hit in hits} == {"再往后是几?", "再往后呢?"}
    for hit in hits:
        assert hit["text"] in shown(db, f"数数@{hit['version']}")


def test_search_can_be_limited_to_the_current_view(db: str) -> None:
    ok("rollback", "--db", db)
    assert len(json.loads(ok("search", "往后", "--current", "--json", "--db", db, "-c", "数"))) == 1
    assert json.loads(ok("search", "没有的话", "--json", "--db", db)) == []
    assert json.loads(ok("search", "话", "--json", "--db", db + "-not-there")) == []
