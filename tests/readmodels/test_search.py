"""Search: what is found, where it leads, what the index costs, and what it forgets."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import openai2
from openai2 import (
    BadInput,
    Conversation,
    DamagedStore,
    Engine,
    StoreUnavailable,
    UnknownConversation,
    assistant_msg,
    user_msg,
)
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import request_events
from openai2.readmodels.search import Found
from openai2.store import fulltext as index
from openai2.store import schema, tokenizer
from tests.support.stores import asked, busy


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "store.db") as engine:
        yield engine


def texts(found: list[Found]) -> list[str]:
    return [it.text for it in found]


def sql(engine: Engine, statement: str) -> list[tuple[object, ...]]:
    return engine.store.transact(lambda tx: tx.sql.execute(statement).fetchall())


# -- Words


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("我们用Python写数据库", "数据", "我们用Python写[数据]库"),
        ("我们用Python写数据库", "库", "我们用Python写数据[库]"),
        ("我们用Python写数据库", "用python写", "我们[用Python写]数据库"),
        ("我们用Python写数据库", "库 我们", "[我们]用Python写数据[库]"),
        ("数学有依据", "数据", None),
        ("你好，世界！", "世界！", "你好，[世界]！"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full", "[ＦＵＬＬ] ｗｉｄｔｈ"),
        ("plain", "ｐｌａｉｎ", "[plain]"),
        ("ｶﾞｷﾞ", "ガ", "[ｶﾞ]ｷﾞ"),
        ("日々のこと", "日々", "[日々]のこと"),
        ("안녕하세요", "하세", "안녕[하세]요"),
        ("𠮷野家", "𠮷", "[𠮷]野家"),
        ("Café au lait", "CAFE", "[Café] au lait"),
        ("Cafe\u0301 au lait", "café", "[Cafe\u0301] au lait"),
        ("can't stop", "can't", "[can't] stop"),
        ("fox AND hound", "and", "fox [AND] hound"),
        ('say "stop" (now)', '"stop"', 'say "[stop]" (now)'),
        ("a-b: c*", "a-b:", "[a-b]: c*"),
        ("nothing else", "else nothing", "[nothing] [else]"),
        ("unfound", "found", None),
        ("x\x00y\x02z\x03", "z", "x\x00y\x02[z]\x03"),
    ],
)
def test_a_word_is_found_and_marked(text: str, query: str, marked: str | None) -> None:
    with Engine() as engine:
        engine.create("c").add([user_msg(text)])
        assert [it.marked("[", "]") for it in engine.search(query)] == ([] if marked is None else [marked])


_CJK = st.characters(min_codepoint=0x3041, max_codepoint=0x30FF) | st.characters(
    min_codepoint=0x4E00, max_codepoint=0x9FFF
) | st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3) | st.characters(
    min_codepoint=0x20000, max_codepoint=0x2A6DF
)  # fmt: skip
_KANA_MARKS = "\u3097\u3098\u3099\u309a\u309b\u309c\u30a0\u30fb"


@given(
    st.text(max_size=20),
    st.text(_CJK.filter(lambda char: char not in _KANA_MARKS), min_size=1, max_size=30),
    st.text(max_size=20).filter(lambda text: text[:1] not in {*_KANA_MARKS, "ﾞ", "ﾟ"}),
    st.data(),
)
def test_any_stretch_of_chinese_is_found(before: str, run: str, after: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(run) - 1))
    end = data.draw(st.integers(first + 1, len(run)))
    wanted = run[first:end]
    with Engine() as engine:
        engine.create("c").add([user_msg("other"), user_msg(before + run + " " + after)])
        (found,) = engine.search(wanted)
        assert any(wanted in found.snippet[a:b] for a, b in found.spans)  # neighbours share a mark


@given(st.text(st.characters() | st.sampled_from('"*^:+-()数据 ANDORT{}')), st.booleans())
def test_no_text_is_a_syntax_error(text: str, raw: bool) -> None:
    with Engine() as engine:
        engine.create("c").add([user_msg("数据 and more")])
        try:
            engine.search(text, raw=raw)
        except BadInput:
            assert raw or not text.strip()


@given(st.text(), st.integers(0, 300), st.text(min_size=1, max_size=5))
def test_marks_stand_in_the_snippet(text: str, filler: int, word: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    with Engine() as engine:
        engine.create("c").add([user_msg(text + " lorem" * filler + text)])
        query = word if word.strip() else "lorem"
        for found in engine.search(query):
            assert len(found.snippet) <= tokenizer.SNIPPET + 2
            assert all(0 <= a < b <= len(found.snippet) for a, b in found.spans)
            assert found.marked("", "") == found.snippet


def test_a_long_text_is_shown_where_the_words_are() -> None:
    with Engine() as engine:
        engine.create("c").add([user_msg("lead " * 500 + "one needle and\nanother needle " + "tail " * 500)])
        (found,) = engine.search("needle another")
        assert "one [needle] and [another] [needle]" in found.marked("[", "]")
        assert found.snippet.startswith("…lead") and found.snippet.endswith("tail…")


def test_raw_queries() -> None:
    with Engine() as engine:
        engine.create("c").add([user_msg("数据库引擎"), user_msg("foxes run"), user_msg("数学")])
        assert len(engine.search("数据 OR fox*", raw=True)) == 2
        assert texts(engine.search('"数" NOT 数据', raw=True)) == ["数学"]
        assert texts(engine.search("NEAR(数据 引擎, 2)", raw=True)) == ["数据库引擎"]
        with pytest.raises(BadInput, match="cannot be read") as caught:
            engine.search("(fox", raw=True)
        assert "reason" in caught.value.facts


@pytest.mark.parametrize("text", ["", "  \n", "　", 5, None])
def test_nothing_to_search_for(text: str) -> None:
    with Engine() as engine, pytest.raises(BadInput, match="search for"):
        engine.search(text)


def test_wrong_limit_and_unknown_conversation() -> None:
    with Engine() as engine:
        with pytest.raises(BadInput, match="limit"):
            engine.search("x", limit=0)
        with pytest.raises(UnknownConversation):
            engine.search("?", conversation="nobody")


def test_a_query_of_marks_alone_finds_nothing() -> None:
    with Engine() as engine:
        engine.create("c").add([user_msg("?!")])
        assert engine.search('?! * "') == []


def test_a_query_of_many_words() -> None:
    words = [f"w{number}" for number in range(3000)]
    with Engine() as engine:
        engine.create("c").add([user_msg(" ".join(words))])
        assert len(engine.search(" ".join(words))) == 1


# -- What is found, and where it leads


def test_the_best_first_and_the_newer_among_equals(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg("fox and many other words"), user_msg("fox"), user_msg("fox"), user_msg("fox fox")])
    found = engine.search("fox")
    assert [it.id for it in found] == [5, 4, 3, 2]
    assert [it.rank for it in found] == sorted(it.rank for it in found)
    assert [it.id for it in engine.search("fox", limit=2)] == [5, 4]
    assert len(engine.search("fox", limit=None)) == 4


def test_all_of_a_message_that_is_text() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    with Engine() as engine:
        engine.create().add(
            [
                {"role": "user", "content": [{"type": "text", "text": "partly"}, {"type": "image_url"}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "assistant", "content": None, "refusal": "sorry"},
            ]
        )
        found = [engine.search(word)[0] for word in ("partly", "weather", "oslo", "sorry")]
        assert [it.id for it in found] == [2, 3, 3, 4]
        assert [it.role for it in found] == ["user", "assistant", "assistant", "assistant"]
        assert found[0].name is None


def test_it_leads_to_a_view_that_holds_the_message(engine: Engine) -> None:
    streams = busy(engine)
    for it in engine.search("a OR 2 OR 3 OR deep OR one OR three OR 二 OR elsewhere", raw=True, limit=None):
        holder = engine.open(it.conversation)
        held = {held.id: held.message for held in holder.view_messages(it.version)}
        if it.joined:
            assert held[it.id]["role"] == it.role
        else:
            assert it.id not in held
    assert streams


def asked_again(chat: Conversation, question: int, answer: str) -> None:
    """A question whose request failed, asked again and answered."""
    ask = request_events.RequestSpec(question=[], model=None, again=[(question, msg.USER)])
    begun: list[request_events.OpenRequest] = []

    def begin(state: request_events.StreamState) -> list[ev.Event]:
        events, one = request_events.begin(ask, state)
        begun.append(one)
        return events

    chat.commit(begin)
    raw = msg.encode(assistant_msg(answer), "the answer")
    chat.commit(lambda state: request_events.answered(begun[0], state, raw, ev.Answer()))


def test_a_question_joins_with_its_answer(engine: Engine) -> None:
    chat = engine.create("c")
    asked(chat, "lucky", "yes")
    asked(chat, "unlucky", None)
    asked(chat, "next", "done")
    asked(chat, "again", None)
    asked_again(chat, engine.search("again")[0].id, "at last")
    lucky, unlucky, again = (engine.search(word)[0] for word in ("lucky", "unlucky", "again"))
    assert (lucky.version, lucky.joined) == (engine.search("yes")[0].version, True)
    assert (unlucky.version, unlucky.joined) == (unlucky.id, False)
    assert (again.version, again.joined) == (engine.search("at last")[0].version, True)


def test_what_a_fork_inherited_is_found_once(engine: Engine) -> None:
    main = engine.create("main")
    main.add([user_msg("shared fox")])
    fork = main.fork("fork")
    main.add([user_msg("later fox")])
    fork.add([user_msg("forked fox")])
    assert {(it.name, it.text) for it in engine.search("fox")} == {
        ("main", "shared fox"),
        ("main", "later fox"),
        ("fork", "forked fox"),
    }
    assert {*texts(engine.search("fox", conversation="fork"))} == {"shared fox", "forked fox"}
    assert {*texts(engine.search("fox", conversation=main.id))} == {"shared fox", "later fox"}
    inherited = next(it for it in engine.search("fox") if it.name == "fork")
    assert inherited.id == 4 and fork.message(4)["content"] == "forked fox"


def test_only_what_is_in_view_now(engine: Engine) -> None:
    main = engine.create("main")
    main.add([user_msg("kept fox"), assistant_msg("yes"), user_msg("gone fox"), assistant_msg("no")])
    fork = main.fork("fork")
    deeper = fork.fork("deeper")
    main.rollback()
    assert {(it.name, it.text) for it in engine.search("fox", current=True)} == {
        ("main", "kept fox"),
        ("fork", "gone fox"),
    }
    fork.rollback()
    gone = next(it for it in engine.search("fox", current=True) if it.text == "gone fox")
    assert gone.name == "deeper"
    assert gone.id in {held.id for held in deeper.view_messages(gone.version)}
    deeper.rollback()
    assert texts(engine.search("fox", current=True)) == ["kept fox"]
    assert texts(engine.search("fox", current=True, conversation="deeper")) == ["kept fox"]
    main.undo()
    assert len(engine.search("fox", current=True)) == 2
    assert texts(engine.search("fox", current=True, conversation="fork")) == ["kept fox"]


# -- The index


def tables(engine: Engine) -> set[object]:
    return {name for (name,) in sql(engine, "SELECT name FROM sqlite_master WHERE name LIKE 'search%'")}


def test_appending_and_opening_leave_no_trace(engine: Engine) -> None:
    engine.create("c").add([user_msg("fox")])
    assert not tables(engine)
    engine.rebuild()
    assert not tables(engine)
    engine.search("fox")
    assert "search" in tables(engine)
    assert sql(engine, "SELECT count(*) FROM search_docsize") == [(1,)]
    engine.open("c").add([user_msg("fox")])
    assert sql(engine, "SELECT count(*) FROM search_docsize") == [(1,)]
    assert len(engine.search("fox")) == 2


def test_it_catches_up_in_batches(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_BATCH_MESSAGES", 3)
    chat = engine.create("c")
    chat.add([user_msg(f"fox {number}") for number in range(10)])
    assert len(engine.search("fox")) == 10
    monkeypatch.setattr(index, "_BATCH_BYTES", 1)
    chat.add([user_msg("fox"), user_msg("fox")])
    chat.rename("d")
    assert len(engine.search("fox")) == 12
    assert sql(engine, f"SELECT position FROM cursors WHERE name = '{index.CURSOR}'") == [(14,)]


def pieces(engine: Engine) -> object:
    return sql(engine, "SELECT count(DISTINCT segid) FROM search_idx")[0][0]


def merged(engine: Engine) -> list[tuple[object, ...]]:
    return sql(engine, f"SELECT position FROM cursors WHERE name = '{index.MERGED}'")


def test_an_index_that_grew_is_merged_into_one_piece(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_BATCH_MESSAGES", 5)
    monkeypatch.setattr(index, "_BATCH_PAGES", 1)
    monkeypatch.setattr(index, "_MERGE_LEAST", 50)
    chat = engine.create("c")
    chat.add([user_msg(f"fox {number}") for number in range(40)])
    assert len(engine.search("fox", limit=None)) == 40
    assert pieces(engine) != 1 and not merged(engine), "too few to be worth it"
    chat.add([user_msg(f"fox {number}") for number in range(400)])
    before = engine.search("fox", limit=None)
    assert pieces(engine) == 1 and merged(engine) == [(441,)]
    chat.add([user_msg("hound")] * 54)
    assert len(engine.search("hound", limit=None)) == 54
    assert pieces(engine) != 1 and merged(engine) == [(441,)], "less than an eighth was added"
    chat.add([user_msg("hound")] * 2)
    assert len(engine.search("hound", limit=None)) == 56
    assert pieces(engine) == 1 and merged(engine) == [(497,)]
    assert {it.id for it in engine.search("fox", limit=None)} == {it.id for it in before}
    assert engine.verify().ok
    sql(engine, "INSERT INTO search (search) VALUES ('integrity-check')")
    sql(engine, "DROP TABLE search")
    assert len(engine.search("hound", limit=None)) == 56 and merged(engine) == [(497,)]


def test_a_merge_that_was_cut_short_is_gone_on_with(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_BATCH_MESSAGES", 5)
    monkeypatch.setattr(index, "_MERGE_LEAST", 50)
    monkeypatch.setattr(index, "_BATCH_PAGES", 1)
    chat = engine.create("c")
    chat.add([user_msg(f"fox {number}") for number in range(400)])
    with monkeypatch.context() as patch:
        patch.setattr(index, "_MERGE_LEAST", 1000)
        engine.search("fox")
    assert pieces(engine) != 1 and engine.store.transact(index.merge_on)
    chat.add([user_msg("fox")])
    assert len(engine.search("fox", limit=None)) == 401
    assert pieces(engine) == 1 and merged(engine) == [(402,)]


def test_a_marker_forgets_what_it_was_shown() -> None:
    from openai2.store import scratch_index

    with scratch_index.marker() as first, scratch_index.marker() as second:
        assert first is not second
        assert first.marks('"fox"', ["a fox", "no"]) == [[(2, 5)], []]
        with pytest.raises(sqlite3.OperationalError):
            first.marks('"', ["a fox"])
        assert first.marks('"fox"', ["fox"]) == [[(0, 3)]]
        assert second.marks('"fox"', ["foxes"]) == [[]]
    with scratch_index.marker() as again:
        assert again in (first, second)
    held = [scratch_index.marker() for _ in range(8)]
    with contextlib.ExitStack() as stack:
        markers = {stack.enter_context(one) for one in held}
        assert len(markers) == 8


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE search",
        f"DELETE FROM cursors WHERE name = '{index.CURSOR}'",
        "UPDATE cursors SET position = 999 WHERE name LIKE 'search%'",
        "UPDATE cursors SET position = 'x' WHERE name LIKE 'search%'",
        "UPDATE cursors SET name = 'search 0' WHERE name LIKE 'search%'",
    ],
)
def test_an_index_that_lost_its_table_or_cursor_is_made_anew(engine: Engine, damage: str) -> None:
    engine.create("c").add([user_msg("fox"), user_msg("hound")])
    before = engine.search("fox")
    sql(engine, damage)
    assert engine.search("fox") == before
    sql(engine, damage)
    engine.rebuild()
    with engine.store.reading() as reader:
        assert index.reached(reader) == reader.last_position()
    assert engine.search("fox") == before


@pytest.mark.parametrize("part", ["config", "data", "docsize", "idx"])
@pytest.mark.parametrize("damage", ["DROP TABLE search_{}", "DELETE FROM search_{}"])
def test_an_index_that_was_tampered_with_is_rebuilt(tmp_path: Path, part: str, damage: str) -> None:
    with Engine(tmp_path / "store.db") as engine:
        engine.create("c").add([user_msg("fox")])
        before = engine.search("fox")
        sql(engine, damage.format(part))
    with Engine(tmp_path / "store.db") as engine:
        # FTS5 does not look at all of its tables for each question.
        with contextlib.suppress(DamagedStore):
            assert engine.search("fox") == before
        engine.rebuild()
        assert engine.search("fox") == before
        assert len(tables(engine)) == 5


def test_a_store_that_cannot_be_written_is_searched_to_its_end(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg("old fox")])
    engine.search("fox")
    chat.add([user_msg("new fox fox"), user_msg("else")])
    engine.store.read_only = True
    assert {*texts(engine.search("fox"))} == {"old fox", "new fox fox"}
    assert len(engine.search("fox", limit=1)) == 1
    assert texts(engine.search("else", current=True, conversation="c")) == ["else"]
    engine.store.read_only = False
    sql(engine, "DROP TABLE search")
    engine.store.read_only = True
    assert texts(engine.search("new")) == ["new fox fox"]


def test_an_sqlite_without_fts5(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = engine.create("c")
    chat.add([user_msg("fox")])
    engine.search("fox")

    def lacks_it(connection: sqlite3.Connection) -> bool:
        return False

    monkeypatch.setattr(schema, "has_fts5", lacks_it)
    with pytest.raises(StoreUnavailable, match="FTS5"):
        engine.search("fox")
    with pytest.raises(StoreUnavailable, match="FTS5"):
        engine.store.transact(lambda tx: index.forget(tx, [(chat.id, 2)]))
    engine.rebuild()
    monkeypatch.undo()
    assert len(engine.search("fox")) == 1


def test_many_may_search_at_once(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "_BATCH_MESSAGES", 7)
    engine.create("c").add([user_msg(f"fox {number}") for number in range(100)])
    found: list[int] = []

    def look(synchronous: str) -> None:
        with Engine(tmp_path / "store.db", synchronous=synchronous) as another:
            found.append(len(another.search("fox", limit=None)))

    threads = [threading.Thread(target=look, args=(kind,)) for kind in ("FULL", "FULL", "NORMAL", "OFF")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [100] * 4
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []


def test_what_is_forgotten_leaves_no_byte(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg(f"word{number} 普通话") for number in range(50)])
    chat.add([user_msg("the password is hunter2 暗号"), user_msg("plain")])
    engine.search("x")
    chat.add([user_msg("swordfish")])

    def kept() -> tuple[bytes, set[object]]:
        """The index's bytes, and its words (of which the bytes show but the ends that differ)."""
        rows = sql(engine, "SELECT block FROM search_data UNION ALL SELECT term FROM search_idx")
        sql(engine, "CREATE VIRTUAL TABLE temp.terms USING fts5vocab (main, search, 'row')")
        known = {term for (term,) in sql(engine, "SELECT term FROM temp.terms")}
        sql(engine, "DROP TABLE temp.terms")
        return b"".join(block for (block,) in rows if isinstance(block, bytes)), known

    raw, known = kept()
    assert b"hunter2" in raw and {"hunter2", "暗", "号"} < known
    forgotten = [(chat.id, 52), (chat.id, 54), (chat.id, 1), ("nobody", 1)]
    engine.store.transact(lambda tx: index.forget(tx, forgotten))
    raw, known = kept()
    assert b"hunter2" not in raw and not {"hunter2", "暗", "号"} & known
    with engine.store.reading() as reader:
        # Its event is not emptied in this test, so it counts as missing.
        assert index.flaws(reader) == [index.Flaw(52, True)]
    assert not engine.search("hunter2")
    assert engine.search("word7") and engine.search("plain") and engine.search("swordfish")
    sql(engine, "INSERT INTO search (search) VALUES ('integrity-check')")


def test_forgetting_where_nobody_searched_yet(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg("secret")])
    engine.store.transact(lambda tx: index.forget(tx, [(chat.id, 2)]))
    assert not tables(engine)
    engine.search("secret")
    sql(engine, "DELETE FROM cursors")
    engine.store.transact(lambda tx: index.forget(tx, [(chat.id, 2)]))
    assert not tables(engine)


def test_flaws_of_the_index(engine: Engine) -> None:
    chat = engine.create("c")
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []
    chat.add([user_msg("one"), user_msg("two"), user_msg("")])
    engine.search("one")
    chat.add([user_msg("not read yet")])
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []
    sql(engine, "INSERT INTO search (search, rowid, text) VALUES ('delete', 2, 'one')")
    sql(engine, "INSERT INTO search (rowid, text) VALUES (1, 'forged')")
    with engine.store.reading() as reader:
        assert index.flaws(reader) == [index.Flaw(2, True), index.Flaw(1, False)]
        assert index.flaws(reader, most=1) == [index.Flaw(2, True)]
    assert engine.search("forged") == []
    engine.rebuild()
    with engine.store.reading() as reader:
        assert index.flaws(reader) == []
    assert texts(engine.search("one")) == ["one"]


def test_plain_sqlite_reads_the_index(engine: Engine, tmp_path: Path) -> None:
    engine.create("c").add([user_msg("fox")])
    engine.search("fox")
    plain = sqlite3.connect(tmp_path / "store.db")
    try:
        assert plain.execute("SELECT rowid FROM search WHERE search MATCH 'fox'").fetchall() == [(2,)]
    finally:
        plain.close()


def test_searching_loads_nothing_heavy(engine: Engine, tmp_path: Path) -> None:
    engine.create("c").add([user_msg("fox")])
    assert openai2.__file__
    code = (
        "import sys; from openai2 import Engine\n"
        "with Engine(sys.argv[1]) as engine: assert engine.search('fox')\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "store.db")],
        cwd=Path(openai2.__file__).parent.parent, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"openai", "rich", "sqlite_utils", "prompt_toolkit", "click", "asyncio"} & {*loaded}
