"""The page's model (model.js) in Node: the views that it reaches, rounds, and places of an address."""

from __future__ import annotations

import json
import subprocess
from importlib.resources import files
from shutil import which
from typing import Any

import pytest

from openai2 import Engine, assistant_msg, user_msg
from openai2.html import export as html_export
from tests.support.page import Page, read_page
from tests.support.stores import busy, retry_late

pytestmark = pytest.mark.skipif(which("node") is None, reason="Node is not installed")

SETUP = """
const page = JSON.parse(require("fs").readFileSync(0, "utf8"));
const streams = readStreams(page.about, page.rows);
const texts = new Texts(page.about.texts, (index) => page.texts[index]);
const stateOf = ({ids, pins}) => [ids.slice(), [...pins].sort((a, b) => a - b)];
const put = (value) => process.stdout.write(JSON.stringify(value));
"""


def run(page: Page, script: str) -> Any:
    """Run *script* after model.js, on the data of *page*, and return what it puts."""
    data = {
        "about": page.about,
        "rows": [json.loads(block) for block in page.blocks.get("rows", [])],
        "texts": [json.loads(block) for block in page.blocks.get("texts", [])],
    }
    code = files("openai2.html").joinpath("model.js").read_text("utf-8") + SETUP + script
    done = subprocess.run(
        ["node", "-e", code], input=json.dumps(data).encode(), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_view_is_the_engines_in_any_order(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    family = busy(engine)
    monkeypatch.setattr(html_export, "FRAME_INTERVAL", 3)
    page = read_page(engine, "deeper")
    views = run(
        page,
        """
        const placesOf = (stream) => stream.rows.map((_, index) => [stream, stream.base + index + 1]);
        const view = new View(), all = streams.flatMap(placesOf);
        const read = (places) => places.map(([stream, number]) => stateOf(view.at(stream, number)));
        const fresh = all.map(([stream, number]) => stateOf(new View().at(stream, number)));
        put([read(all), read(all.slice().reverse()).reverse(), fresh]);
        """,
    )
    expected = [
        [[item.id for item in items], sorted(item.id for item in items if item.pinned)]
        for name in ("main", "side", "deeper")
        for items in map(family[name].view_messages, range(1, family[name].version + 1))
    ]
    assert views == [expected, expected, expected]


def test_items_show_removed_messages_in_place(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("one"), assistant_msg("1"), user_msg("two"), assistant_msg("2")])
    conversation.rollback()
    items = run(read_page(engine), "put(itemsAt(new View(), texts, streams[0], streams[0].size))")
    assert [(item["id"], item["marks"]) for item in items] == [
        (2, []),
        (3, []),
        (4, ["removed"]),
        (5, ["removed"]),
    ]


def test_late_answer_is_inserted_or_shown_beside_the_view(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("one"), assistant_msg("1")])
    retry_late(conversation, "late", lambda: conversation.add([user_msg("two")]))
    retry_late(conversation, "too late", conversation.rollback)
    page = read_page(engine, "a")
    versions = range(1, conversation.version + 1)
    expected = [[item.id for item in conversation.view_messages(version)] for version in versions]
    view = "const view = new View(), [a] = streams;"
    assert run(page, view + "put(a.rows.map((_, at) => view.at(a, at + 1).ids.slice()))") == expected
    back = "put(a.rows.map((_, at) => view.at(a, a.size - at).ids.slice()).reverse())"
    assert run(page, view + back) == expected
    items = run(page, view + "put(itemsAt(view, texts, a, a.size))")
    assert [(item["id"], item["marks"]) for item in items][-1] == (conversation.version, ["aside"])


def test_failed_request_shows_question_and_partial_answer(engine: Engine) -> None:
    busy(engine)
    marks = run(
        read_page(engine, "main"),
        """
        const version = streams[0].rows.findIndex((row) => row.type === "request_failed") + 1;
        const items = itemsAt(new View(), texts, streams[0], version);
        put(items.filter((item) => item.changed).map((item) => item.marks[0]));
        """,
    )
    assert marks == ["unanswered", "came"]


def test_rounds_are_paired_by_question(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("one"), assistant_msg("1")])
    fork = conversation.fork("b")
    conversation.add([user_msg("two"), assistant_msg("the quick fox"), user_msg("left?")])
    fork.add([user_msg("two"), assistant_msg("the slow fox"), user_msg("right?")])
    pairs, words = run(
        read_page(engine, "a"),
        """
        const ids = (stream) => new View().at(stream, stream.size).ids, [a, b] = streams;
        const pairs = pairRounds(a, ids(a), b, ids(b));
        const {words, both} = compareAnswers(texts, a, pairs[1][0], b, pairs[1][1]);
        const questions = pairs.map((pair) => pair.map((round) => round && round.question));
        put([questions, words.map((list, side) => list.filter((_, at) => !both[side].has(at)))]);
        """,
    )
    assert pairs == [[2, 2], [4, 5], [6, None], [None, 7]]
    assert words == [["quick"], ["slow"]]


@pytest.mark.parametrize(
    ("address", "expected"),
    [("main@2", [0, 2]), ("main", [0, None]), ("main@0", None), ("nobody@7", None), ("%", None), ("", None)],
)
def test_address_names_an_event(engine: Engine, address: str, expected: list[int | None] | None) -> None:
    main = busy(engine)["main"]
    found = run(
        read_page(engine, "main"),
        f"const place = parsePlace(streams, {json.dumps(address)});"
        "put(place && [place.branch.place, place.number]);",
    )
    assert found == (expected and [expected[0], expected[1] or main.version])
