"""The page as a file: what it tells of each event, that nothing in it can become markup, and its bytes.

What a browser makes of it is looked at in tests/browser.
"""

from __future__ import annotations

import io
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2 import Chat, Conversation, Engine, UnknownConversation, assistant_msg, user_msg
from openai2.core import events as ev
from openai2.errors import BadInput
from openai2.html import export as html_export
from openai2.offline import OfflineServer
from tests.support.stores import busy, long


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(None) as engine:
        yield engine


class Read(HTMLParser):
    """A page as a browser parses it: its scripts by class, its style, title and policy."""

    def __init__(self, data: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: dict[str, list[str]] = {}
        self.title = ""
        self.policy = ""
        self.tags: list[str] = []
        self._into: tuple[str, str] | None = None
        self.feed(data.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        fields = dict(attrs)
        if fields.get("http-equiv") == "Content-Security-Policy":
            self.policy = fields["content"] or ""
        if tag in ("script", "style", "title"):
            self._into = (tag, fields.get("class") or tag)
            if tag != "title":
                self.blocks.setdefault(self._into[1], []).append("")

    def handle_endtag(self, tag: str) -> None:
        if self._into and tag == self._into[0]:
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into and self._into[0] == "title":
            self.title += data
        elif self._into:
            self.blocks[self._into[1]][-1] += data

    @property
    def about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads(self.blocks["about"][0])
        return about

    def rows(self, place: int) -> list[dict[str, Any]]:
        blocks = [json.loads(block) for block in self.blocks.get("rows", [])]
        return [row for block in blocks if block["stream"] == place for row in block["rows"]]

    def texts(self) -> dict[tuple[int, int], dict[str, Any]]:
        blocks = [json.loads(block) for block in self.blocks.get("texts", [])]
        starts = [[block[0][0], block[0][1]] for block in blocks]
        assert starts == self.about["texts"]
        return {(place, version): text for block in blocks for place, version, text in block}


def made(engine: Engine, *names: str | Conversation) -> Read:
    return Read(written(engine, *names))


def written(engine: Engine, *names: str | Conversation) -> bytes:
    file = io.BytesIO()
    engine.export_page(list(names) or None, file)
    return file.getvalue()


View = tuple[list[int], set[int]]


def forwards(view: View, row: dict[str, Any]) -> View:
    """What the page's script does with a row."""
    ids, pins = list(view[0]), set(view[1])
    for place, left, came in row.get("change", []):
        assert ids[place : place + len(left)] == left
        ids[place : place + len(left)] = came
    came, left = row.get("pins", ([], []))
    return ids, pins.difference(left).union(came)


def backwards(view: View, row: dict[str, Any]) -> View:
    ids, pins = list(view[0]), set(view[1])
    for place, left, came in reversed(row.get("change", [])):
        assert ids[place : place + len(came)] == came
        ids[place : place + len(came)] = left
    came, left = row.get("pins", ([], []))
    return ids, pins.difference(came).union(left)


def check(engine: Engine, read: Read) -> None:
    """At each event of each conversation the page's view is the engine's: forwards, backwards, by frames."""
    tips: dict[tuple[int, int], View] = {}
    for place, told in enumerate(read.about["streams"]):
        conversation = engine.open(told["id"])
        view: View = ([], set()) if told["parent"] is None else tips[told["parent"], told["forked"]]
        rows = read.rows(place)
        assert len(rows) == conversation.version
        for version, row in enumerate(rows, 1):
            before, view = view, forwards(view, row)
            held = conversation.held(version)
            assert view == ([one.id for one in held], {one.id for one in held if one.pinned})
            assert backwards(view, row) == before
            if frame := row.get("frame"):
                assert (frame["ids"], set(frame["pins"])) == view
            tips[place, version] = view
        assert told["head"] == conversation.head


# -- views


def test_each_event_tells_what_it_changed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    busy(engine)
    check(engine, made(engine))
    monkeypatch.setattr(html_export, "FRAMES", 2)
    monkeypatch.setattr(html_export, "ROWS", 3)
    monkeypatch.setattr(html_export, "BLOCK", 100)
    read = made(engine)
    check(engine, read)
    assert any("frame" in row for row in read.rows(0))


def test_a_long_conversation_has_whole_views_now_and_then(engine: Engine) -> None:
    conversation = long(engine, size=1400)
    conversation.rollback(300)
    conversation.undo()
    conversation.fork("twin").add([user_msg("and now?")])
    read = made(engine)
    check(engine, read)
    frames = [len(row["frame"]["ids"]) for row in read.rows(0) if "frame" in row]
    assert frames and sum(frames) <= conversation.version
    assert len(read.blocks["rows"]) == 3
    assert "frame" not in read.rows(1)[0], "a fork's page does not repeat what it inherited"


ids = st.lists(st.integers(0, 30), unique=True, max_size=14)


@given(ids, ids)
def test_changes_lead_from_one_view_to_another(before: list[int], after: list[int]) -> None:
    row = {"change": html_export.changes(before, after)}
    assert forwards((before, set()), row)[0] == after
    assert backwards((after, set()), row)[0] == before


@given(ids, st.sets(st.integers(0, 30)))
def test_where_some_left_nothing_else_is_touched(before: list[int], leaving: set[int]) -> None:
    after = [one for one in before if one not in leaving]
    change = html_export.changes(before, after)
    assert [one for _, left, _ in change for one in left] == [one for one in before if one in leaving]
    assert not any(came for _, _, came in change)


# -- families


def test_a_page_holds_the_whole_family(engine: Engine) -> None:
    family = busy(engine)
    read = made(engine, "deeper")
    streams = read.about["streams"]
    assert [one["name"] for one in streams] == ["main", "side", "deeper"]
    forked = [next(family[name].events()).data["version"] for name in ("side", "deeper")]
    assert [(one["parent"], one["forked"]) for one in streams[1:]] == [(0, forked[0]), (1, forked[1])]
    assert read.about["opened"] == 2
    assert read.title == "deeper"
    done = engine.export_page(family["side"], io.BytesIO())
    assert (done.conversations, done.added) == (3, sorted([family["main"].id, family["deeper"].id]))


def test_a_page_of_several_opens_with_the_first(engine: Engine) -> None:
    busy(engine)
    read = made(engine, "put away", "side")
    names = [one["name"] for one in read.about["streams"]]
    assert sorted(names) == ["deeper", "main", "put away", "side"]
    assert names[read.about["opened"]] == "put away"
    assert read.about["streams"][names.index("put away")]["archived"]


def test_a_page_of_everything_and_of_nothing(engine: Engine) -> None:
    assert made(engine).about == {"opened": 0, "streams": [], "texts": []}
    busy(engine)
    assert len(made(engine).about["streams"]) == len(engine.conversations(archived=None))


def test_what_is_not_there_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with pytest.raises(UnknownConversation):
        engine.export_page("nobody", path)
    with pytest.raises(BadInput):
        engine.export_page(None, tmp_path / "no" / "page.html")
    assert not list(tmp_path.iterdir())


def test_the_page_is_a_format_of_export(engine: Engine, tmp_path: Path) -> None:
    busy(engine)
    done = engine.export(["main"], file=tmp_path / "page.html", format="html")
    assert (tmp_path / "page.html").read_bytes() == written(engine, "main")
    assert done.conversations == 3


# -- what is told of a message


def test_an_answer_comes_with_its_facts(engine: Engine) -> None:
    key = "sk-offline-0123456789abcdefghij"
    with OfflineServer() as server:
        chat = Chat(key, server.MODEL, db=engine, base_url=server.base_url)
        chat.request("自然数1的后面是几?")
    data = written(engine, chat.conversation)
    read = Read(data)
    *_, question, answer = read.rows(0)
    assert (question["kind"], question["asks"]) == ("u", 0)
    facts = answer["data"]["answer"]
    assert facts["model"] == server.MODEL and facts["usage"]["prompt_tokens"] and facts["key"]
    assert key.encode() not in data
    assert [text["message"] for text in read.texts().values()] == chat.fetch_messages()


def test_the_same_question_has_the_same_number(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("one"), user_msg("two"), {"content": "one", "role": "user"}])
    asks = [row.get("asks") for row in made(engine).rows(0)]
    assert asks == [None, 0, 1, 0]


def test_what_failed_is_told_with_what_had_come(engine: Engine) -> None:
    busy(engine)
    read = made(engine, "main")
    failed = next(at for at, row in enumerate(read.rows(0), 1) if row["type"] == "request_failed")
    assert read.texts()[0, failed]["partial"] == assistant_msg("half an")
    assert read.rows(0)[failed - 1]["data"]["message"] == "no luck"


def test_what_was_redacted_is_gone_from_the_page(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("the secret is swordfish"), assistant_msg("noted")])
    engine.redact(conversation.id, 2, reason="a secret")
    data = written(engine)
    assert b"swordfish" not in data
    rows = Read(data).rows(0)
    assert rows[1]["redacted"] and "asks" not in rows[1]
    assert rows[3]["data"]["reason"] == "a secret"
    check(engine, Read(data))


def test_what_was_deleted_is_an_empty_shell(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("the secret is swordfish")])
    engine.delete(conversation.id)
    data = written(engine)
    assert b"swordfish" not in data
    assert Read(data).rows(0)[-1]["type"] == "deleted"


def test_long_data_waits_until_it_is_looked_at(engine: Engine) -> None:
    conversation = engine.create("a")
    conversation.set_role("Ann", "kind " * 1000)
    read = made(engine)
    assert "data" not in read.rows(0)[1]
    assert read.texts()[0, 2]["data"]["name"] == "Ann"


# -- text is text

NASTY = (
    "</script><script>alert(1)</script><!--<script>",
    "<img src=x onerror=alert(1)>",
    "]]>&lt;&#x3c;script>",
    "\u2028\u2029\u202e\x00\x07\x1b[31m",
    "{{script}}{{policy}}{{data}}",
    "\\u003c\\",
)


@pytest.mark.parametrize("text", NASTY)
def test_nothing_in_a_message_becomes_markup(engine: Engine, text: str) -> None:
    plain = made(engine).tags
    conversation = engine.create("a")
    message = {"role": "user", "content": text, "name": text, text: [text]}
    conversation.add([message])
    conversation.set_role(text, text)
    data = written(engine)
    read = Read(data)
    assert read.texts() == {(0, 2): {"message": message}}
    assert read.rows(0)[2]["data"] == {"name": text, "description": text}
    assert sorted(read.tags) == sorted([*plain, "script", "script"]), "its texts, its rows, and no more"
    inside = "".join(block for kind in ("rows", "texts", "about") for block in read.blocks[kind])
    assert not re.search("[<>&\u2028\u2029]", inside)


@pytest.mark.parametrize("name", ["</title><script>alert(1)</script>", "a\u202eb", "{{script}}"])
def test_nothing_in_a_name_becomes_markup(engine: Engine, name: str) -> None:
    plain = made(engine).tags
    engine.create(name)
    read = made(engine, name)
    assert sorted(read.tags) == sorted([*plain, "script"])
    assert read.title == name.replace("\u202e", "⟨U+202E⟩")
    assert read.about["streams"][0]["name"] == name


def test_a_message_of_five_megabytes(engine: Engine) -> None:
    conversation = engine.create("big")
    conversation.add([user_msg("why?"), assistant_msg("<" * 5_000_000), user_msg("oh")])
    read = made(engine)
    assert [len(text["message"]["content"]) for text in read.texts().values()] == [4, 5_000_000, 2]
    assert len(read.blocks["texts"]) == 2, "it ends its block"


# -- the file


def test_the_policy_lets_in_this_style_and_script_alone(engine: Engine) -> None:
    read = made(engine)

    def hashed(text: str) -> str:
        return b64encode(sha256(text.encode()).digest()).decode()

    assert read.policy == (
        f"default-src 'none'; script-src 'sha256-{hashed(read.blocks['script'][0])}';"
        f" style-src 'sha256-{hashed(read.blocks['style'][0])}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert len(read.blocks["script"]) == len(read.blocks["style"]) == 1


def test_the_same_store_gives_the_same_bytes(tmp_path: Path) -> None:
    with Engine(tmp_path / "a.db") as engine:
        busy(engine)
        first, archive = written(engine), io.BytesIO()
        engine.export(file=archive)
    with Engine(tmp_path / "a.db") as engine:
        assert written(engine) == first
        engine.rebuild()
        assert written(engine) == first


def _source(name: str) -> str:
    return files("openai2.html").joinpath(name).read_text("utf-8")


def test_every_word_is_in_the_table_in_both_languages() -> None:
    script, template = _source("page.js"), _source("page.html")
    table = re.search(r"const WORDS = \{\n(.*?)\n\};", script, re.DOTALL)
    assert table
    entries = re.findall(r'(\w+): \[("(?:[^"\\]|\\.)*"), ("(?:[^"\\]|\\.)*")\]', table[1])
    words = {name: (json.loads(english), json.loads(chinese)) for name, english, chinese in entries}
    assert all(english and chinese for english, chinese in words.values())
    used = set(re.findall(r'say\((?:[^()"`]*\? )?"(\w+)"', script)) | set(re.findall(r'"([kt]_\w+)"', script))
    used |= set(re.findall(r'data-(?:word|title)="(\w+)"', template))
    assert used <= set(words), f"not in the table: {used - set(words)}"
    said_by_sort = {"t_pinned", "t_unpinned", "theme_auto", "theme_light", "theme_dark"}
    unused = set(words) - used - said_by_sort - set(re.findall(r'"(\w+)"', script.replace(table[0], "")))
    assert not unused, f"said nowhere: {unused}"
    placeholders = {
        name: [set(re.findall(r"\{\w+\}", one)) for one in pair]
        for name, pair in words.items()
        if not {"|"} & set(pair[0])
    }
    assert all(english == chinese for english, chinese in placeholders.values())


def test_every_kind_of_event_is_told_in_words() -> None:
    script = _source("page.js")
    untold = [tag for tag in ev.TYPES if f'case "{tag}":' not in script]
    assert not untold, f"page.js has no sentence for {', '.join(untold)}: see tale() and WORDS there"


def test_the_script_neither_parses_markup_nor_asks_a_network() -> None:
    script = _source("page.js")
    forbidden = (
        "innerHTML outerHTML insertAdjacentHTML document.write DOMParser eval( Function( setAttribute('on"
    )
    forbidden += " fetch( XMLHttpRequest WebSocket sendBeacon EventSource import( replaceAll"
    assert not [word for word in forbidden.split() if word in script]
    assert not re.search(r"""(src|href)=["']?https?:""", _source("page.html") + _source("page.css"))
    assert "url(" not in _source("page.css") and "@import" not in _source("page.css")
    assert "</script" not in script.lower() and "</style" not in _source("page.css").lower()
