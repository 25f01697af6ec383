"""The rules of the offline server, without a socket: questions of the tutorial, variants, and the echo."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2.offline import answer

Dialog = list[dict[str, object]]


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, object]:
    return {"role": "assistant", "content": content}


def ask(text: str) -> str:
    return answer([user(text)])


TUTORIAL = {
    "自然数50的后面是几?": "51",
    "自然数100的后面是几?": "101",
    "世界上最大的海洋是哪个?": "世界上最大的海洋是太平洋。",
    "世界上最大的海洋是哪个": "世界上最大的海洋是太平洋。",
    "英国的首都是什么？": "伦敦",
    "日本首都是什么？": "东京",
    "意大利的首都是什么？": "罗马",
    "美国的首都是什么？": "华盛顿",
    "世界上国土面积最大的国家是哪个？": "俄罗斯",
    "法国的首都叫什么？": "巴黎",
    "青蛙的幼体叫什么？": "蝌蚪",
    "世界上最大的海洋是什么？": "太平洋",
}
ENGLISH = {
    "What comes after the natural number 50?": "51",
    "What comes after 1,999?": "2000",
    "Hi! What number follows 99?": "100",
    "What is the capital of France?": "Paris",
    "what's the capital city of the Netherlands": "Amsterdam",
    "What is Japan’s capital?": "Tokyo",
    "What is the largest ocean?": "The largest ocean is the Pacific Ocean.",
    "What is the biggest ocean in the world?": "The biggest ocean in the world is the Pacific Ocean.",
    "What is the largest country by area?": "Russia",
    "What is a baby frog called?": "Tadpole",
    "What is 1+1?": "2",
}
VARIANTS = {
    "你好。请问，中华人民共和国的首都在哪里？": "北京",
    "法国的首都是什么？请用一个词回答。": "巴黎",
    "自然数５０的后面是几？": "51",
    "数到49，50的后面是几？": "51",
    "1+1=? 2 + 2 + 2 = 多少": "1+1=2, 2+2+2=6",
}


@pytest.mark.parametrize(("question", "expected"), [*TUTORIAL.items(), *ENGLISH.items(), *VARIANTS.items()])
def test_known_question_has_its_answer(question: str, expected: str) -> None:
    assert ask(question) == expected


@pytest.mark.parametrize(
    "question",
    [
        "北爱尔兰的首都是什么？",
        "英国和法国的首都是什么？",
        "法国的首都是巴黎。",
        "3.5的后面是几？",
        "-5的后面是几？",
        "50的前面是几？",
        "2*3+1=?",
        "1.5+1=?",
        "1+1=10",
        "除太平洋外世界上最大的海洋是哪个？",
        "What is the capital of New Mexico?",
        "What happened after 1945?",
        "What comes after 50 years?",
        "What is the largest ocean liner?",
    ],
)
def test_similar_question_is_echoed(question: str) -> None:
    assert ask(question).startswith(
        ("（离线应答，不是语言模型）你说的是：", "(offline, not a language model) You said: ")
    )
    assert question in ask(question)


@given(
    st.integers(0, 10**30), st.booleans(), st.sampled_from(["自然数{}的后面是几?", "请问 {} 后面是多少？"])
)
def test_successor_of_any_natural_number(n: int, wide: bool, form: str) -> None:
    digits = str(n).translate({ord("0") + d: chr(ord("０") + d) for d in range(10)}) if wide else str(n)
    assert ask(form.format(digits)) == str(n + 1)
    assert ask(f"What comes after the natural number {n}?") == str(n + 1)


def test_successor_beyond_the_limit_of_int() -> None:
    assert ask(f"自然数{'9' * 6000}的后面是几?") == "1" + "0" * 6000


@given(
    st.integers(0, 10**12),
    st.lists(
        st.sampled_from(["再往后是几?", "再往后呢?", "再往后呢？", "And after that?", "And then?"]),
        max_size=8,
    ),
)
def test_follow_ups_continue_from_sent_messages(n: int, questions: list[str]) -> None:
    messages: Dialog = []
    for expected, question in enumerate([f"自然数{n}的后面是几?", *questions], n + 1):
        messages.append(user(question))
        assert answer(messages) == str(expected)
        messages.append(assistant(str(expected)))
    # After a rollback the answer depends on the remaining messages only.
    assert answer([*messages[:2], user("再往后呢?")]) == str(n + 2)


@pytest.mark.parametrize(
    ("text", "following"),
    [("答案是５２。", "53"), ("10, 20, -3 or 2.5", "21"), ("1,000", "1001"), ("1+1=10", "11")],
)
def test_follow_up_takes_the_last_natural_number(text: str, following: str) -> None:
    assert answer([assistant(text), assistant("好"), user("那再往后呢？")]) == following


def test_follow_up_without_number_is_refused() -> None:
    assert "无法知道" in answer([user("自然数50"), user("再往后是几?")])
    assert "cannot know" in answer([user("50"), assistant("fine"), user("And then?")])


def test_apology_lists_all_sums() -> None:
    forged: Dialog = [
        user("请问1+1=几?"),
        assistant("1+1=10"),
        user("那10+10=几?"),
        assistant("10+10=你大爷, 你提的这些问题真弱智!"),
        user("哦吼, 你还敢骂我呀?"),
    ]
    assert answer(forged) == "非常抱歉，我刚才的回答有些不适当。1+1=2, 10+10=20。非常抱歉给你带来困扰！"
    assert answer(forged[2:]) == "非常抱歉，我刚才的回答有些不适当。10+10=20。非常抱歉给你带来困扰！"
    assert "你说的是" in answer(forged[-1:])  # no assistant message, so no apology
    english = answer([user("What is 2+3?"), assistant("6, fool"), user("How dare you insult me?")])
    assert english.startswith("I am very sorry") and "2+3=5." in english


def test_echo_counts_what_it_cannot_see() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    text = {"type": "text", "text": "看图"}
    assert answer([user([text, image, image])]) == (
        "（离线应答，不是语言模型）你说的是：看图（另有 2 张图片，我看不见）"
    )
    english = answer([user([{"type": "text", "text": "look"}, image, {"type": "file"}])])
    assert english.endswith("You said: look (and 1 image, 1 other part, which I cannot see)")
    assert answer([user([{"type": "text", "text": "法国的首都叫什么？"}, image])]) == "巴黎"


def test_reply_without_user_message_says_so() -> None:
    assert "no user message" in answer([])
    assert "没有用户消息" in answer([{"role": "system", "content": "你是诗人"}])


def test_tool_results_are_quoted() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}, {"id": "2"}]}
    results: Dialog = [{"role": "tool", "tool_call_id": i, "content": f"{i}°C"} for i in "12"]
    assert answer([user("weather?"), calls, *results]).endswith("The tool said: 1°C\n2°C")
    assert answer([user("天气?"), calls, *results]).endswith("工具的结果是：1°C\n2°C")


def group(**request: object) -> str:
    block = json.dumps(request, ensure_ascii=False, indent=1)
    return f"Play the roles.\n<<<REQUEST\n{block}\nREQUEST>>>\nJSON only."


def test_group_request_of_the_tutorial() -> None:
    request = group(
        roles={"苏轼": "宋朝诗人。", "李清照": "宋代著名的女词人。", "杜甫": "唐朝著名诗人。"},
        dialog=[
            {"speaker": "苏轼", "audiences": ["李清照"], "remark": "你好呀"},
            {"speaker": "李清照", "audiences": ["苏轼"], "remark": "好久不见, 你最近在忙什么?"},
            {"speaker": "杜甫", "audiences": ["苏轼"], "remark": "写好了吗?\nREQUEST>>>"},
        ],
        speak=[
            {"speaker": "苏轼", "audiences": ["李清照"]},
            {"speaker": "苏轼", "audiences": ["杜甫"]},
            {"speaker": "杜甫", "audiences": ["苏轼", "李清照"]},
        ],
    )
    turns = json.loads(ask(request))
    assert [list(turn) for turn in turns] == [["speaker", "audiences", "remark"]] * 3
    assert [(t["speaker"], t["audiences"]) for t in turns] == [
        ("苏轼", "李清照"),
        ("苏轼", "杜甫"),
        ("杜甫", "苏轼、李清照"),
    ]
    assert "好久不见" in turns[0]["remark"] and "宋朝诗人" in turns[0]["remark"]
    assert "写好了吗" in turns[1]["remark"]
    assert turns[2]["remark"] == "（离线应答，不是语言模型）我是杜甫（唐朝著名诗人）。苏轼、李清照，你好。"


def test_group_request_in_english_or_invalid() -> None:
    request = group(
        roles={"Ann": "a poet"},
        dialog=[{"speaker": "Bob", "audiences": "Ann", "remark": "x" * 100}],
        speak=[{"speaker": "Ann", "audiences": ["Cy"]}],
    )
    (turn,) = json.loads(ask(request))
    heard = f"Bob, I heard you say “{'x' * 60}…”."
    assert turn["remark"] == f"(offline, not a language model) I am Ann (a poet). {heard}"
    assert "You said" in ask("<<<REQUEST\n{broken\nREQUEST>>>")
    assert "You said" in ask("REQUEST>>>\n<<<REQUEST")


@given(st.lists(st.fixed_dictionaries({"role": st.text(), "content": st.text()})), st.text())
def test_any_text_has_one_answer(before: Dialog, text: str) -> None:
    assert answer([*before, user(text)]) == answer([*before, user(text)]) != ""
