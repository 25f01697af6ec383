"""Search queries: which words match, in any script, and how matches are marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2 import BadInput, Engine, UnknownConversation, user_msg
from openai2.store import tokenizer
from tests.support.stores import texts_of


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
def test_query_word_matches_and_is_marked(engine: Engine, text: str, query: str, marked: str | None) -> None:
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
def test_query_finds_any_cjk_substring(before: str, run: str, after: str, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(run) - 1))
    end = data.draw(st.integers(first + 1, len(run)))
    substring = run[first:end]
    with Engine() as engine:
        engine.create("c").add([user_msg("other"), user_msg(before + run + " " + after)])
        (found,) = engine.search(substring)
        assert any(substring in found.snippet[a:b] for a, b in found.spans)  # neighbours share a mark


@given(st.text(st.characters() | st.sampled_from('"*^:+-()数据 ANDORT{}')), st.booleans())
def test_query_text_is_never_a_syntax_error(text: str, raw: bool) -> None:
    with Engine() as engine:
        engine.create("c").add([user_msg("数据 and more")])
        try:
            engine.search(text, raw=raw)
        except BadInput:
            assert raw or not text.strip()


@given(st.text(), st.integers(0, 300), st.text(min_size=1, max_size=5))
def test_snippet_contains_its_spans(text: str, filler: int, word: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    with Engine() as engine:
        engine.create("c").add([user_msg(text + " lorem" * filler + text)])
        query = word if word.strip() else "lorem"
        for found in engine.search(query):
            assert len(found.snippet) <= tokenizer.SNIPPET + 2
            assert all(0 <= a < b <= len(found.snippet) for a, b in found.spans)
            assert found.marked("", "") == found.snippet


def test_snippet_of_long_text_surrounds_the_words(engine: Engine) -> None:
    engine.create("c").add([user_msg("lead " * 500 + "one needle and\nanother needle " + "tail " * 500)])
    (found,) = engine.search("needle another")
    assert "one [needle] and [another] [needle]" in found.marked("[", "]")
    assert found.snippet.startswith("…lead") and found.snippet.endswith("tail…")


def test_raw_query_uses_fts5_syntax(engine: Engine) -> None:
    engine.create("c").add([user_msg("数据库引擎"), user_msg("foxes run"), user_msg("数学")])
    assert len(engine.search("数据 OR fox*", raw=True)) == 2
    assert texts_of(engine.search('"数" NOT 数据', raw=True)) == ["数学"]
    assert texts_of(engine.search("NEAR(数据 引擎, 2)", raw=True)) == ["数据库引擎"]
    with pytest.raises(BadInput, match="cannot parse") as caught:
        engine.search("(fox", raw=True)
    assert "reason" in caught.value.facts


@pytest.mark.parametrize("text", ["", "  \n", "　", 5, None])
def test_empty_query_is_bad_input(engine: Engine, text: str) -> None:
    with pytest.raises(BadInput, match="search text"):
        engine.search(text)


def test_bad_limit_and_unknown_conversation_are_refused(engine: Engine) -> None:
    with pytest.raises(BadInput, match="limit"):
        engine.search("x", limit=0)
    with pytest.raises(UnknownConversation):
        engine.search("?", conversation="no such name")


def test_query_of_punctuation_finds_nothing(engine: Engine) -> None:
    engine.create("c").add([user_msg("?!")])
    assert engine.search('?! * "') == []


def test_query_of_3000_words_finds_the_message(engine: Engine) -> None:
    words = [f"w{number}" for number in range(3000)]
    engine.create("c").add([user_msg(" ".join(words))])
    assert len(engine.search(" ".join(words))) == 1
