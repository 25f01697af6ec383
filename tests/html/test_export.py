"""The data of the page: changes of the view, families, facts of messages. tests/browser looks at the page."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2 import Chat, Engine, UnknownConversation, assistant_msg, user_msg
from openai2.errors import BadInput
from openai2.html import export as html_export
from openai2.offline import OfflineServer
from tests.support.page import Page, export, read_page
from tests.support.stores import busy, long

View = tuple[list[int], set[int]]


def apply(view: View, row: dict[str, Any], *, forwards: bool = True) -> View:
    """Apply a row's change as the page's script does."""
    ids, pins = list(view[0]), set(view[1])
    changes = [
        (place, *((old, new) if forwards else (new, old))) for place, old, new in row.get("change", [])
    ]
    for place, old, new in changes if forwards else reversed(changes):
        assert ids[place : place + len(old)] == old
        ids[place : place + len(old)] = new
    pinned, unpinned = row.get("pins", ([], []))[:: 1 if forwards else -1]
    return ids, pins.difference(unpinned).union(pinned)


def check(engine: Engine, page: Page) -> None:
    """Compare the view at each event with the engine's: forwards, backwards and in frames."""
    views: dict[tuple[int, int], View] = {}
    for place, stream in enumerate(page.about["streams"]):
        conversation = engine.open(stream["id"])
        view: View = ([], set()) if stream["parent"] is None else views[stream["parent"], stream["forked"]]
        rows = page.rows(place)
        assert len(rows) == conversation.version
        for version, row in enumerate(rows, 1):
            before, view = view, apply(view, row)
            items = conversation.view_messages(version)
            assert view == ([item.id for item in items], {item.id for item in items if item.pinned})
            assert apply(view, row, forwards=False) == before
            if frame := row.get("frame"):
                assert (frame["ids"], set(frame["pins"])) == view
            views[place, version] = view
        assert stream["head"] == conversation.head


# -- views


def test_rows_lead_to_the_view_at_each_event(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(engine)
    check(engine, read_page(engine))
    monkeypatch.setattr(html_export, "FRAME_INTERVAL", 2)
    monkeypatch.setattr(html_export, "BLOCK_ROWS", 3)
    monkeypatch.setattr(html_export, "BLOCK_BYTES", 100)
    page = read_page(engine)
    check(engine, page)
    assert any("frame" in row for row in page.rows(0))


def test_long_conversation_has_frames(engine: Engine) -> None:
    conversation = long(engine, size=1400)
    conversation.rollback(300)
    conversation.undo()
    conversation.fork("twin").add([user_msg("and now?")])
    page = read_page(engine)
    check(engine, page)
    frames = [len(row["frame"]["ids"]) for row in page.rows(0) if "frame" in row]
    assert frames and sum(frames) <= conversation.version
    assert len(page.blocks["rows"]) == 3
    assert "frame" not in page.rows(1)[0], "a fork repeats its parent's view"


ids = st.lists(st.integers(0, 30), unique=True, max_size=14)


@given(ids, ids)
def test_changes_turn_one_view_into_another(before: list[int], after: list[int]) -> None:
    row = {"change": html_export.changes(before, after)}
    assert apply((before, set()), row)[0] == after
    assert apply((after, set()), row, forwards=False)[0] == before


@given(ids, st.sets(st.integers(0, 30)))
def test_changes_of_removals_name_removed_ids_only(before: list[int], removed: set[int]) -> None:
    change = html_export.changes(before, [id for id in before if id not in removed])
    assert [id for _, old, _ in change for id in old] == [id for id in before if id in removed]
    assert not any(new for _, _, new in change)


# -- families


def test_page_holds_whole_family(engine: Engine) -> None:
    family = busy(engine)
    page = read_page(engine, "deeper")
    streams = page.about["streams"]
    assert [stream["name"] for stream in streams] == ["main", "side", "deeper"]
    forked = [next(family[name].events()).data["version"] for name in ("side", "deeper")]
    assert [(stream["parent"], stream["forked"]) for stream in streams[1:]] == [
        (0, forked[0]),
        (1, forked[1]),
    ]
    assert page.about["opened"] == 2
    assert page.title == "deeper"
    done = engine.export_page(family["side"], io.BytesIO())
    assert (done.conversations, done.added) == (3, sorted([family["main"].id, family["deeper"].id]))


def test_page_of_several_opens_with_first(engine: Engine) -> None:
    busy(engine)
    about = read_page(engine, "put away", "side").about
    names = [stream["name"] for stream in about["streams"]]
    assert sorted(names) == ["deeper", "main", "put away", "side"]
    assert names[about["opened"]] == "put away"
    assert about["streams"][names.index("put away")]["archived"]


def test_page_without_names_holds_everything(engine: Engine) -> None:
    assert read_page(engine).about == {"opened": 0, "streams": [], "texts": []}
    busy(engine)
    assert len(read_page(engine).about["streams"]) == len(engine.conversations(archived=None))


def test_failed_export_writes_nothing(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UnknownConversation):
        engine.export_page("nobody", tmp_path / "page.html")
    with pytest.raises(BadInput):
        engine.export_page(None, tmp_path / "no" / "page.html")
    assert not list(tmp_path.iterdir())


def test_html_is_a_format_of_export(engine: Engine, tmp_path: Path) -> None:
    busy(engine)
    done = engine.export(["main"], file=tmp_path / "page.html", format="html")
    assert (tmp_path / "page.html").read_bytes() == export(engine, "main")
    assert done.conversations == 3


def test_same_store_gives_same_bytes(tmp_path: Path) -> None:
    with Engine(tmp_path / "a.db") as engine:
        busy(engine)
        first = export(engine)
    with Engine(tmp_path / "a.db") as engine:
        assert export(engine) == first
        engine.rebuild()
        assert export(engine) == first


# -- facts of messages


def test_answer_has_its_facts_but_no_key(engine: Engine) -> None:
    key = "sk-offline-0123456789abcdefghij"
    with OfflineServer() as server:
        chat = Chat(key, server.MODEL, db=engine, base_url=server.base_url)
        chat.request("自然数1的后面是几?")
    data = export(engine, chat.conversation)
    page = Page(data)
    *_, question, answer = page.rows(0)
    assert (question["kind"], question["asks"]) == ("u", 0)
    facts = answer["data"]["answer"]
    assert facts["model"] == server.MODEL and facts["usage"]["prompt_tokens"] and facts["key"]
    assert key.encode() not in data
    assert [text["message"] for text in page.texts().values()] == chat.fetch_messages()


def test_same_question_has_same_number(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("one"), user_msg("two"), {"content": "one", "role": "user"}])
    assert [row.get("asks") for row in read_page(engine).rows(0)] == [None, 0, 1, 0]


def test_failed_request_has_its_partial_answer(engine: Engine) -> None:
    busy(engine)
    page = read_page(engine, "main")
    failed = next(at for at, row in enumerate(page.rows(0), 1) if row["type"] == "request_failed")
    assert page.texts()[0, failed]["partial"] == assistant_msg("half an")
    assert page.rows(0)[failed - 1]["data"]["message"] == "no luck"


def test_redacted_message_is_absent_from_page(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("the secret is swordfish"), assistant_msg("noted")])
    engine.redact(conversation.id, 2, reason="a secret")
    data = export(engine)
    assert b"swordfish" not in data
    rows = Page(data).rows(0)
    assert rows[1]["redacted"] and "asks" not in rows[1]
    assert rows[3]["data"]["reason"] == "a secret"
    check(engine, Page(data))


def test_deleted_conversation_is_an_empty_shell(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("the secret is swordfish")])
    engine.delete(conversation.id)
    data = export(engine)
    assert b"swordfish" not in data
    assert Page(data).rows(0)[-1]["type"] == "deleted"


def test_long_data_is_in_texts(engine: Engine) -> None:
    engine.create("a").set_role("Ann", "kind " * 1000)
    page = read_page(engine)
    assert "data" not in page.rows(0)[1]
    assert page.texts()[0, 2]["data"]["name"] == "Ann"


def test_message_of_five_megabytes_ends_its_block(engine: Engine) -> None:
    engine.create("big").add([user_msg("why?"), assistant_msg("<" * 5_000_000), user_msg("oh")])
    page = read_page(engine)
    assert [len(text["message"]["content"]) for text in page.texts().values()] == [4, 5_000_000, 2]
    assert len(page.blocks["texts"]) == 2
