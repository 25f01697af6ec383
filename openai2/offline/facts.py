"""Answer small questions in Chinese and English: sums, natural numbers, capitals, three facts.

Invariants:
- A rule gets one clause of the question and the texts sent before it, and returns an answer or None.
- A rule never guesses: a question that it does not match completely is left to the echo.
- Patterns take time in proportion to the text, for any text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import IGNORECASE
from typing import NamedTuple

ZH_NOTICE = "（离线应答，不是语言模型）"
EN_NOTICE = "(offline, not a language model) "

_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
# Full-width characters are read as ASCII; a full-width comma never joins the digits around it.
_TO_ASCII = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)} | {
    0x3000: " ",
    ord("，"): ", ",
    ord("’"): "'",
}
# Only number questions can be longer: this bounds the backtracking of the other patterns.
_MAX_LENGTH = 200


class _Sent(NamedTuple):
    """The texts of the sent messages, oldest first."""

    users: Sequence[str]
    assistants: Sequence[str]


def is_cjk(text: str) -> bool:
    """True if the text has Chinese, Japanese or Korean characters, so that the answer is in Chinese."""
    return _CJK.search(text) is not None


def answer_question(text: str, users: Sequence[str], assistants: Sequence[str]) -> str | None:
    """Return the answer to the last clause that a rule answers, or None.

    *users* and *assistants* are the texts of all sent messages, including this one.
    """
    for clause in reversed(re.split(r"[。!;\n]+|\.\s", text.translate(_TO_ASCII))):
        for rule in (_apology, _sum, _successor, _follow_up, _capital, _fact):
            answer = rule(_collapse_spaces(clause), _Sent(users, assistants))
            if answer is not None:
                return answer
    return None


def _collapse_spaces(text: str) -> str:
    return " ".join(text.split())


# --- sums, and the apology for wrong answers ------------------------------------------------------------

_SUM = re.compile(
    r"(?<![0-9.+*/×÷^-])(?<![+*/×÷^-] )(?<![0-9],)([0-9]{1,1000}(?: ?\+ ?[0-9]{1,1000})+) ?"
    r"(?:(?:=|等于|是|得|equals?) ?(?:几|多少|什么|what|\?|$)|\?)"
)
_REPROACH = re.compile(
    r"骂(?:我|人)|侮辱我|\b(?:insult|swear|curs|offend|abus)\w{0,3} (?:at )?me\b"
    r"|\byou(?: are|'re)\b.{0,40}\b(?:rude|insulting)\b",
    IGNORECASE,
)


def _sums(text: str) -> list[str]:
    """Return the sums that a text asks for, as in `1+1=2`."""
    terms_of_sums = (
        match[1].replace(" ", "") for match in _SUM.finditer(_collapse_spaces(text.translate(_TO_ASCII)))
    )
    return [f"{terms}={sum(map(int, terms.split('+')))}" for terms in terms_of_sums]


def _sum(clause: str, _sent: _Sent) -> str | None:
    sums = _sums(clause)
    return sums[0].partition("=")[2] if len(sums) == 1 else ", ".join(sums) or None


def _apology(clause: str, sent: _Sent) -> str | None:
    if not sent.assistants or not _REPROACH.search(clause):
        return None
    sums = ", ".join(sum_ for text in sent.users for sum_ in _sums(text))
    if is_cjk(clause):
        return f"非常抱歉，我刚才的回答有些不适当。{sums + '。' if sums else ''}非常抱歉给你带来困扰！"
    return f"I am very sorry, my answers were not proper. {sums + '. ' if sums else ''}I regret the trouble!"


# --- natural numbers ---------------------------------------------------------------------------------

_NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_AFTER = re.compile(
    rf"(?<![0-9.-])(?<![0-9],)({_NUMBER}) ?(?:这个(?:自然)?数)? ?[的之]? ?"
    r"(?:再?往后|后面|后边|之后|后一个|下一个)(?:的|那个|一个|自然|数字|数|整)* ?"
    r"(?:应该)?[又会]?[是为]? ?(?:几|多少|什么|哪|呢|\?|$)"
)
_AFTER_EN = re.compile(
    r"(?:\b(?:what|which)(?:'s| is)? ?(?:the )?(?:next )?(?:natural )?(?:number |integer )?(?:that )?"
    r"(?:(?:comes?|goes|is) )?(?:next |right |directly |immediately )?(?:after|follows)|^and after) "
    rf"(?:the )?(?:natural )?(?:number |integer )?({_NUMBER})(?! ?\w|[.,][0-9])",
    IGNORECASE,
)
_AGAIN = re.compile(
    r"(?:请问|好的?|嗯|那么?|[\s,])*(?:再|又|继续|接着|然后)*"
    r"(?:往后面?|向后|往下|后面|之后|接下来|下一个|接着|然后)(?:再|的|一个|自然|数字|数)*"
    r"(?:应该)?[又会]?[是为]?(?:几|多少|什么|哪个)?[呢呀啊? ~.]*"
)
_AGAIN_EN = re.compile(
    r"(?:(?:ok(?:ay)?|and|so|now|then)\b[ ,]*)*(?:what(?:'s| is| about)? ?)?(?:number )?(?:comes |is )?"
    r"(?:after (?:that|it|this)(?: one)?|(?:and )?then|(?:the )?next(?: one| number)?)[? .]*",
    IGNORECASE,
)
# Signs and fractions are matched too: a part of -3 or 2.5 is not a natural number.
_ANY_NUMBER = re.compile(rf"(?:(?<![0-9])-)?{_NUMBER}(?:\.[0-9]+)?")


def _next(number: str) -> str:
    """Return the next natural number, by digits: int() refuses numbers of many thousand digits."""
    digits = number.replace(",", "").lstrip("0")
    kept = digits.rstrip("9")
    return (kept[:-1] + str(int(kept[-1]) + 1) if kept else "1") + "0" * (len(digits) - len(kept))


def _successor(clause: str, _sent: _Sent) -> str | None:
    match = _AFTER.search(clause) or _AFTER_EN.search(clause)
    return _next(match[1]) if match else None


def _follow_up(clause: str, sent: _Sent) -> str | None:
    if len(clause) > _MAX_LENGTH or not (_AGAIN.fullmatch(clause) or _AGAIN_EN.fullmatch(clause)):
        return None
    for text in reversed(sent.assistants):
        numbers = [n for n in _ANY_NUMBER.findall(text.translate(_TO_ASCII)) if "-" not in n and "." not in n]
        if numbers:
            return _next(numbers[-1])
    if is_cjk(clause):
        return ZH_NOTICE + "在发来的消息里，助手没有说过自然数，所以无法知道再往后是几。"
    return EN_NOTICE + "In the messages sent the assistant said no natural number, so I cannot know the next."


# --- capitals ----------------------------------------------------------------------------------------

# Chinese names, Chinese capital, English names, English capital; `_` for a space.
_TABLE = """
中国/中华人民共和国 北京 China Beijing,
英国/联合王国/英格兰 伦敦 UK/United_Kingdom/Britain/Great_Britain/England London,
美国 华盛顿 US/USA/America/United_States Washington, 日本 东京 Japan Tokyo, 意大利 罗马 Italy Rome,
法国 巴黎 France Paris, 德国 柏林 Germany Berlin, 西班牙 马德里 Spain Madrid, 葡萄牙 里斯本 Portugal Lisbon,
俄罗斯/俄国 莫斯科 Russia Moscow, 乌克兰 基辅 Ukraine Kyiv, 波兰 华沙 Poland Warsaw, 希腊 雅典 Greece Athens,
荷兰 阿姆斯特丹 Netherlands Amsterdam, 比利时 布鲁塞尔 Belgium Brussels, 瑞士 伯尔尼 Switzerland Bern,
奥地利 维也纳 Austria Vienna, 瑞典 斯德哥尔摩 Sweden Stockholm, 挪威 奥斯陆 Norway Oslo,
捷克 布拉格 Czechia Prague, 芬兰 赫尔辛基 Finland Helsinki, 丹麦 哥本哈根 Denmark Copenhagen,
冰岛 雷克雅未克 Iceland Reykjavik, 爱尔兰 都柏林 Ireland Dublin, 匈牙利 布达佩斯 Hungary Budapest,
土耳其 安卡拉 Turkey Ankara, 埃及 开罗 Egypt Cairo, 肯尼亚 内罗毕 Kenya Nairobi,
尼日利亚 阿布贾 Nigeria Abuja, 印度 新德里 India New_Delhi, 泰国 曼谷 Thailand Bangkok,
巴基斯坦 伊斯兰堡 Pakistan Islamabad, 越南 河内 Vietnam Hanoi, 马来西亚 吉隆坡 Malaysia Kuala_Lumpur,
印度尼西亚/印尼 雅加达 Indonesia Jakarta, 菲律宾 马尼拉 Philippines Manila, 新加坡 新加坡 Singapore Singapore,
韩国 首尔 South_Korea Seoul, 朝鲜 平壤 North_Korea Pyongyang, 蒙古 乌兰巴托 Mongolia Ulaanbaatar,
伊朗 德黑兰 Iran Tehran, 伊拉克 巴格达 Iraq Baghdad, 沙特阿拉伯/沙特 利雅得 Saudi_Arabia Riyadh,
加拿大 渥太华 Canada Ottawa, 古巴 哈瓦那 Cuba Havana, 墨西哥 墨西哥城 Mexico Mexico_City,
巴西 巴西利亚 Brazil Brasília, 阿根廷 布宜诺斯艾利斯 Argentina Buenos_Aires, 智利 圣地亚哥 Chile Santiago,
秘鲁 利马 Peru Lima, 澳大利亚/澳洲 堪培拉 Australia Canberra, 新西兰 惠灵顿 New_Zealand Wellington
"""


def _read_table() -> dict[str, tuple[str, str]]:
    capitals: dict[str, tuple[str, str]] = {}
    for line in _TABLE.split(","):
        zh_names, zh, en_names, en = line.split()
        for name in (*zh_names.split("/"), *en_names.split("/")):
            capitals[name.replace("_", " ").casefold()] = (zh, en.replace("_", " "))
    return capitals


_CAPITALS = _read_table()
_OPENER = (
    r"(?:请问|你好|您好|请|你知道|您知道|我想知道|告诉我|那么|那|嗯|[\s,:]"
    r"|(?:ok(?:ay)?|and|so|then|now|please|hi|hello|tell me)\b)*"
)
_IS = r"(?:what|which)(?:'s| is| are) "
_END = r"\s*(?:[?.]|$)"
_CAPITAL = re.compile(
    _OPENER + r"([^的,?]{1,20}?) ?的?首都(?:城市)?(?:的名字)?(?:是|叫做?|在|位于)*(?:什么|哪|啥|呢|\?|$)",
    IGNORECASE,
)
_CAPITAL_EN = re.compile(
    rf"{_OPENER}(?:{_IS}|name )?(?:(?:the )?capital(?: city)? of (?:the )?([^?,]{{1,40}}?)"
    rf"|(?:the )?([^?,]{{1,40}}?)'s capital(?: city)?)(?: called)?{_END}",
    IGNORECASE,
)


def _capital(clause: str, _sent: _Sent) -> str | None:
    if len(clause) > _MAX_LENGTH:
        return None
    match = _CAPITAL.match(clause)
    if match:
        return _CAPITALS.get(match[1].casefold(), (None, None))[0]
    match = _CAPITAL_EN.match(clause)
    if match:
        return _CAPITALS.get((match[1] or match[2]).casefold(), (None, None))[1]
    return None


# --- three facts ------------------------------------------------------------------------

_WORLD = r"(?:(?:世界|全世界|全球|地球)上?)?"
_EARTH = r"(?: (?:in the world|on earth|of the world))?"
_LARGEST = r"(?:world's )?(?:largest|biggest)"
_FROG = r"(?:a |an |the )?frogs?"
# Patterns and answers. The {} of an answer is filled in with the group of the pattern.
_FACTS = [
    (re.compile(_OPENER + question, IGNORECASE), fact)
    for question, fact in (
        (rf"({_WORLD}最大的(?:海洋|大洋))是哪", "{}是太平洋。"),
        (rf"{_WORLD}最大的(?:海洋|大洋)(?:是|叫)做?[什啥]", "太平洋"),
        (rf"{_IS}(the {_LARGEST} ocean{_EARTH}){_END}", "{} is the Pacific Ocean."),
        (rf"which ocean is (the {_LARGEST}){_EARTH}{_END}", "{} ocean is the Pacific Ocean."),
        (rf"{_WORLD}(?:(?:国土|领土)?面积)?最大的国家是[哪什谁]", "俄罗斯"),
        (rf"{_IS}the {_LARGEST} country{_EARTH}(?: by (?:land )?area)?{_EARTH}{_END}", "Russia"),
        (rf"which country is the {_LARGEST}{_EARTH}(?: by (?:land )?area)?{_EARTH}{_END}", "Russia"),
        (r"(?:青蛙|蛙|蟾蜍)的?(?:幼体|幼虫|宝宝)(?:是|叫)做?[什啥]", "蝌蚪"),
        (rf"what(?:'s| is| are| do you call) (?:a )?(?:baby|young) {_FROG}(?: called)?{_END}", "Tadpole"),
        (rf"what(?:'s| is| are| do you call) (?:the )?larvae? of {_FROG}(?: called)?{_END}", "Tadpole"),
    )
]


def _fact(clause: str, _sent: _Sent) -> str | None:
    if len(clause) > _MAX_LENGTH:
        return None
    for question, fact in _FACTS:
        match = question.match(clause)
        if match:
            subject = match[1] if question.groups else ""
            return fact.format(subject[:1].upper() + subject[1:])
    return None
