"""A suspended process wakes after its lease: its answer and the kept draft are not both in the view."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai2 import Chat, Engine, Refused
from openai2.offline import OfflineServer
from openai2.store import SqliteStore

HALF = b'{"role":"assistant","content":"half"}'


@pytest.mark.parametrize("retry", [False, True])
def test_answer_after_its_draft_was_kept_stays_out_of_the_view(tmp_path: Path, retry: bool) -> None:
    path = tmp_path / "chats.db"
    with (
        OfflineServer() as server,
        Chat("sk-test", db=path, conversation="c", base_url=server.base_url) as chat,
        Engine(SqliteStore(path)) as elsewhere,
    ):
        chat.request("one")
        pieces = chat.stream_retry() if retry else chat.stream_request("two")
        first = next(pieces)
        other = elsewhere.open("c")
        with elsewhere.store.reading() as reader:
            (draft,) = reader.drafts(other.id)
        other.keep(draft._replace(partial=HALF))  # its lease is over, as another process sees it
        kept = other.messages()
        with pytest.raises(Refused, match="on record as message"):
            list(pieces)
        assert chat.fetch_messages() == kept and kept[-1]["content"] == "half"
        whole = [record.data["message"]["content"] for record in chat.events() if record.data.get("answer")]
        assert whole[-1].startswith(first) and len(whole[-1]) > len(first)
        assert elsewhere.verify().ok and not other.interrupted()
        elsewhere.store.close()


def test_answer_after_its_draft_was_dropped_joins_the_view_once(tmp_path: Path) -> None:
    path = tmp_path / "chats.db"
    with (
        OfflineServer() as server,
        Chat("sk-test", db=path, conversation="c", base_url=server.base_url) as chat,
        Engine(SqliteStore(path)) as elsewhere,
    ):
        pieces = chat.stream_request("one")
        text = next(pieces)
        other = elsewhere.open("c")
        with elsewhere.store.reading() as reader:
            (draft,) = reader.drafts(other.id)
        other.drop(draft)
        text += "".join(pieces)
        assert [message["content"] for message in chat.fetch_messages()] == ["one", text]
        assert elsewhere.verify().ok
        elsewhere.store.close()
