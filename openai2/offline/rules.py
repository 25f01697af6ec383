"""The rules of the offline server: from messages to one reply.

Invariants:
- A reply depends on the sent messages and tools only: no clock, random numbers, memory or I/O.
- A reply that is not a plain fact says that it is not from a language model.

The first that applies: a tool's result is quoted, a group request is answered, the tools that the text names
are called, a question of `openai2.offline.facts` is answered, the text is echoed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from openai2.offline.facts import EN_NOTICE, ZH_NOTICE, answer_question, is_cjk


class Part(msgspec.Struct, frozen=True):
    """A content part. Only the type is read of parts other than text."""

    type: str = ""
    text: str | None = None


class Function(msgspec.Struct, frozen=True):
    """A function: its name and, in a call, its arguments as JSON."""

    name: str = ""
    arguments: str = ""


class ToolUse(msgspec.Struct, frozen=True):
    """A tool that is offered, chosen or called. The API nests the function in the same way."""

    function: Function = Function()


class Message(msgspec.Struct, frozen=True):
    """The fields that the rules read of an OpenAI message."""

    role: str
    content: str | list[Part] | None = None
    tool_calls: list[ToolUse] | None = None

    @property
    def text(self) -> str:
        """The text; the texts of content parts are joined by line ends."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.text)
        return self.content or ""

    def count(self, *, images: bool) -> int:
        """Count the parts that are images, or those that are neither images nor text."""
        parts = self.content if isinstance(self.content, list) else []
        return sum(part.type != "text" and (part.type == "image_url") is images for part in parts)


class Reply(msgspec.Struct, frozen=True):
    """A reply: a text, or calls of functions."""

    text: str = ""
    calls: tuple[Function, ...] = ()


def answer(messages: Sequence[Mapping[str, object]]) -> str:
    """Return the text that the offline server answers to these messages if no tools are offered."""
    return reply(msgspec.convert(list(messages), list[Message])).text


def reply(
    messages: Sequence[Message],
    tools: Sequence[str] = (),
    *,
    forced: bool = False,
    parallel: bool = True,
) -> Reply:
    """Return the reply. *tools* are the names of the offered functions; if *forced*, one must be called."""
    last = next((m for m in reversed(messages) if m.role in ("user", "tool", "function")), None)
    if last is None:
        if any(is_cjk(message.text) for message in messages):
            return Reply(ZH_NOTICE + "发来的消息里没有用户消息，无从应答。")
        return Reply(EN_NOTICE + "There is no user message to answer.")
    if last.role != "user":
        return Reply(_quote_results(messages))
    text = last.text
    group = _group_answer(text)
    if group is not None:
        return Reply(group)
    calls = tuple(_calls(text, tools))
    if not calls and forced and tools:
        calls = (Function(tools[0], _arguments(text)),)
    if calls:
        return Reply(calls=calls if parallel else calls[:1])
    users = [message.text for message in messages if message.role == "user"]
    assistants = [message.text for message in messages if message.role == "assistant"]
    return Reply(answer_question(text, users, assistants) or _echo(last))


def estimate(text: str) -> int:
    """Estimate the tokens of a text: one for every 3 bytes of UTF-8, rounded up."""
    return -(-len(text.encode()) // 3)


def estimate_prompt(messages: Sequence[Message]) -> int:
    """Estimate the tokens of messages: their texts and calls, 4 a message, 85 a part that is not text."""
    total = 0
    for message in messages:
        total += 4 + estimate(message.text)
        total += 85 * (message.count(images=True) + message.count(images=False))
        for call in message.tool_calls or ():
            total += estimate(call.function.name) + estimate(call.function.arguments)
    return total


# --- the echo and the results of tools ---------------------------------------------------------------


def _echo(message: Message) -> str:
    text, images, others = message.text, message.count(images=True), message.count(images=False)
    if is_cjk(text):
        zh = [f"{n} {what}" for n, what in ((images, "张图片"), (others, "个其他附件")) if n]
        return f"{ZH_NOTICE}你说的是：{text}" + (f"（另有 {'、'.join(zh)}，我看不见）" if zh else "")
    en = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((images, "image"), (others, "other part")) if n]
    return f"{EN_NOTICE}You said: {text}" + (f" (and {', '.join(en)}, which I cannot see)" if en else "")


def _quote_results(messages: Sequence[Message]) -> str:
    """Quote the last consecutive tool messages: parallel calls have several."""
    results: list[str] = []
    for message in reversed(messages):
        if message.role in ("tool", "function"):
            results.append(message.text)
        elif results:
            break
    quoted = "\n".join(reversed(results))
    question = next((message.text for message in reversed(messages) if message.role == "user"), "")
    lead = ZH_NOTICE + "工具的结果是：" if is_cjk(question + quoted) else EN_NOTICE + "The tool said: "
    return lead + quoted


# --- calls of tools ----------------------------------------------------------------------------------


def _calls(text: str, tools: Sequence[str]) -> Iterator[Function]:
    """Yield a call of each function that the text names, in the order of their first mention.

    The arguments are the first JSON object in the text; if there are several names, the first one between
    the name and the next.
    """
    names = "|".join(re.escape(name) for name in sorted(tools, key=len, reverse=True) if name)
    if not names:
        return
    # Only ASCII letters extend a name: Chinese text has no spaces around it.
    mentions = re.finditer(f"(?<![A-Za-z0-9_-])(?:{names})(?![A-Za-z0-9_-])", text)
    spans: dict[str, tuple[int, int]] = {}
    for mention in mentions:
        spans.setdefault(mention[0], mention.span())
    if len(spans) == 1:
        yield Function(next(iter(spans)), _arguments(text))
        return
    nexts = [*(start for start, _end in list(spans.values())[1:]), len(text)]
    for (name, (_start, end)), until in zip(spans.items(), nexts, strict=False):  # no names, no calls
        yield Function(name, _arguments(text[end:until]))


def _arguments(text: str) -> str:
    """Return the first JSON object in the text, or `{}`."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    for _ in range(100):  # bounds the work for a text full of braces
        if start < 0:
            break
        try:
            value, _end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
        else:
            return json.dumps(value, ensure_ascii=False)
    return "{}"


# --- group chats -------------------------------------------------------------------------------------


class _Remark(msgspec.Struct, frozen=True):
    speaker: str
    audiences: list[str] | str
    remark: str


class _Turn(msgspec.Struct, frozen=True):
    speaker: str
    audiences: list[str] | str


class _Group(msgspec.Struct, frozen=True):
    speak: list[_Turn]
    roles: dict[str, str] = {}
    dialog: list[_Remark] = []


def _group_answer(text: str) -> str | None:
    """Return the JSON answer to the request between the marker lines, or None if there is no valid one."""
    lines = [line.strip() for line in text.split("\n")]
    try:
        end = len(lines) - 1 - lines[::-1].index("REQUEST>>>")
        start = end - 1 - lines[:end][::-1].index("<<<REQUEST")
        group = msgspec.json.decode("\n".join(lines[start + 1 : end]), type=_Group)
    except (ValueError, RecursionError):  # no marker lines, or invalid JSON (msgspec raises ValueError)
        return None
    turns = [
        {
            "speaker": turn.speaker,
            "audiences": "、".join(_names(turn.audiences)),
            "remark": _group_remark(group, turn.speaker, _names(turn.audiences)),
        }
        for turn in group.speak
    ]
    return json.dumps(turns, ensure_ascii=False)


def _names(audiences: list[str] | str) -> list[str]:
    return audiences.split("、") if isinstance(audiences, str) else audiences


def _group_remark(group: _Group, speaker: str, audiences: list[str]) -> str:
    role = group.roles.get(speaker, "").rstrip("。. ")
    heard = [remark for remark in reversed(group.dialog) if speaker in _names(remark.audiences)]
    # The last remark of the present audience is preferred to other remarks.
    last = next((remark for remark in heard if remark.speaker in audiences), heard[0] if heard else None)
    quote = last.remark if last else ""
    quote = quote if len(quote) <= 60 else quote[:60] + "…"  # else remarks that quote remarks would grow
    if is_cjk("".join([speaker, *audiences, quote])):
        me = f"我是{speaker}（{role}）。" if role else f"我是{speaker}。"
        heed = f"{last.speaker}，你说的“{quote}”我听到了。" if last else f"{'、'.join(audiences)}，你好。"
        return ZH_NOTICE + me + heed
    me = f"I am {speaker} ({role}). " if role else f"I am {speaker}. "
    heed = f"{last.speaker}, I heard you say “{quote}”." if last else f"Hello, {', '.join(audiences)}."
    return EN_NOTICE + me + heed
