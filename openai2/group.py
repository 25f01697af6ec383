"""GroupChat: several roles in one conversation; each remark has a speaker and audiences.

Invariants:
- Roles and remarks are events: a program that ends between `add_dialog` and `request` loses nothing.
- A request puts the roles, the unused remarks and the speakers into one user message, which joins the view
  like any other. Once it is answered, those remarks are used.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, cast

import msgspec

from openai2.api.options import RequestOptions
from openai2.chat import Chat
from openai2.conversation import Conversation, GroupState
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.request_events import RequestSpec
from openai2.core.typeguards import is_dict, is_list, is_sequence
from openai2.errors import BadInput, NotARemark

Turn = tuple[str, Sequence[str]]
#: Turns to speak; a str or None as in `Chat`.
Question = Iterable[Turn] | str | None

#: The marks around the JSON in the question.
OPENING, CLOSING = "<<<REQUEST", "REQUEST>>>"

_ENGLISH = """\
Several people talk with each other. Between the two marks below stands a JSON object: "roles" says who
they are, "dialog" what has been said since you last spoke for them, and "speak" whose remarks are wanted
now, in this order, and to whom. Write each remark as that person would say it, in the language of the
dialog. Answer with nothing but a JSON array, one object for each entry of "speak", with the keys
"speaker", "audiences" (a text, names joined by 、) and "remark"."""

_CHINESE = """\
有多个角色在互相交谈。下面两个标记之间是一个 JSON 对象："roles" 说明各人是谁，\
"dialog" 是自你上次代言以来的对话，"speak" 依次列出现在要请谁对谁说话。请以各角色的口吻写出他们的话，\
语言与对话一致。只回答一个 JSON 数组，"speak" 的每一项对应一个对象，\
键为 "speaker"、"audiences"（文本，多个名字用“、”连接）、"remark"。"""

_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class Remark(msgspec.Struct, frozen=True):
    """A remark of a speaker to its audiences."""

    speaker: str
    audiences: list[str]
    remark: str


class Roles(MutableMapping[str, str]):
    """A group chat's roles, descriptions by name. Every change is an event."""

    def __init__(self, group: GroupChat) -> None:
        self._group = group

    @property
    def _conversation(self) -> Conversation:
        return self._group.conversation

    def __getitem__(self, name: str) -> str:
        return self._conversation.roles()[name]

    def __setitem__(self, name: str, description: str) -> None:
        _check_name(name, "a role's name")
        _check_text(description, "a role's description")
        if self._conversation.roles().get(name) != description:
            self._conversation.set_role(name, description)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._conversation.set_role(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._conversation.roles())

    def __len__(self) -> int:
        return len(self._conversation.roles())

    def __repr__(self) -> str:
        return repr(self._conversation.roles())


class GroupChat(Chat):
    """A `Chat` in which the model speaks for several roles.

    Requests take turns, (speaker, audiences) pairs, for which the model speaks. A str, or nothing, is asked
    as in a `Chat`.
    """

    @property
    def roles(self) -> Roles:
        """The roles, descriptions by name, as a dict to read and change; empty at first."""
        return Roles(self)

    @roles.setter
    def roles(self, roles: dict[str, str]) -> None:
        known = self.roles
        for name in set(known) - set(roles):
            del known[name]
        known.update(roles)

    def add_dialog(self, speaker: str, audiences: Sequence[str], remark: str) -> None:
        """Record that *speaker* said *remark* to *audiences*; the next request sends it to the model.

        *audiences* are names, or a text with names joined by `、`.
        Raises BadInput (a ValueError) for an invalid name or remark.
        """
        event = ev.RemarkAdded(
            speaker=_check_name(speaker, "a speaker"),
            audiences=_check_names(audiences),
            remark=_check_text(remark, "a remark"),
        )
        self.conversation.commit(lambda state: [event])

    def pending_remarks(self) -> list[Remark]:
        """Return the remarks that no answered request has sent yet."""
        return [Remark(e.speaker, list(e.audiences), e.remark) for e in self.conversation.remarks()]

    def request(self, text: Question = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """Let the model speak once for each (speaker, audiences) of *text*, and return its text.

        Raises the `openai` exception of a failed request; the remarks then stay unused. Raises BadInput for
        invalid turns.
        """
        return super().request(_passed(text), *parts, **options)

    def stream_request(
        self, text: Question = None, *parts: Mapping[str, Any], **options: Any
    ) -> Iterator[str]:
        """`request`, as an iterator of texts."""
        return super().stream_request(_passed(text), *parts, **options)

    async def async_request(self, text: Question = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """`request`, awaited."""
        return await super().async_request(_passed(text), *parts, **options)

    def async_stream_request(
        self, text: Question = None, *parts: Mapping[str, Any], **options: Any
    ) -> AsyncIterator[str]:
        """`stream_request`, as an async iterator."""
        return super().async_stream_request(_passed(text), *parts, **options)

    def run(self, text: Question = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """`request` with tools, as `Chat.run`."""
        return super().run(_passed(text), *parts, **options)

    async def async_run(self, text: Question = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """`run`, awaited."""
        return await super().async_run(_passed(text), *parts, **options)

    asy_request = async_request

    def request_remarks(self, turns: Iterable[Turn], **options: Any) -> list[Remark]:
        """Return the remarks of `request`. Raises NotARemark if its text holds none."""
        return parse_remarks(self.request(turns, **options))

    async def async_request_remarks(self, turns: Iterable[Turn], **options: Any) -> list[Remark]:
        """`request_remarks`, awaited."""
        return parse_remarks(await self.async_request(turns, **options))

    def _ask(
        self, text: Question, parts: Iterable[Mapping[str, Any]], options: dict[str, Any], *, stream: bool
    ) -> tuple[RequestSpec, RequestOptions]:
        if isinstance(text, str) or (text is None and len(self.conversation.view())):
            return super()._ask(text, parts, options, stream=stream)
        speakers = _check_turns(text)
        state = self.conversation.group_state()
        more = options.pop("messages", None) or ()
        question = msg.question(_question_text(state, speakers), tuple(parts), more)
        return self._request(question, options, stream=stream, remarks=state.remark_ids)


def _passed(text: Question) -> Any:
    """Return turns as an argument of `Chat`, whose methods hand them to `GroupChat._ask` as they are."""
    return text


def _question_text(state: GroupState, speakers: Sequence[tuple[str, list[str]]]) -> str:
    content = {
        "roles": state.roles,
        "dialog": [
            {"speaker": event.speaker, "audiences": _joined(event.audiences), "remark": event.remark}
            for event in state.remarks
        ],
        "speak": [{"speaker": speaker, "audiences": _joined(audiences)} for speaker, audiences in speakers],
    }
    text = json.dumps(content, ensure_ascii=False, indent=1)
    instruction = _CHINESE if _CJK.search(text) else _ENGLISH
    return f"{instruction}\n\n{OPENING}\n{text}\n{CLOSING}"


def _joined(audiences: Iterable[str]) -> str:
    return "、".join(audiences)


def parse_remarks(text: str) -> list[Remark]:
    """Return the remarks in a model's answer, whatever text and code fences surround the JSON.

    Raises NotARemark, with the text, if there are none.
    """
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"[\[{]", text)):
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        remarks = _remarks_in(found)
        if remarks:
            return remarks
    raise NotARemark("the model's answer holds no remarks: {text}", text=text)


def _remarks_in(found: Any) -> list[Remark]:
    if is_dict(found) and "remark" not in found:  # {"remarks": [...]}, as JSON mode has it
        lists: list[list[Any]] = [inner for inner in found.values() if is_list(inner)]
        found = lists[0] if lists else []
    remarks: list[Remark] = []
    for item in found if is_list(found) else [found]:
        if not is_dict(item):
            return []
        speaker, remark = item.get("speaker"), item.get("remark")
        if not isinstance(speaker, str) or not isinstance(remark, str):
            return []
        remarks.append(Remark(speaker, _audiences_in(item.get("audiences")), remark))
    return remarks


def _audiences_in(audiences: Any) -> list[str]:
    if is_list(audiences):
        return [str(name) for name in audiences]
    if isinstance(audiences, str):
        return [name for name in re.split(r"\s*[、,，;；]\s*", audiences) if name]
    return []


def _check_turns(turns: object) -> list[tuple[str, list[str]]]:
    if not isinstance(turns, Iterable):
        raise BadInput("expected (speaker, audiences) pairs, got {kind}", kind=type(turns).__name__)
    speakers: list[tuple[str, list[str]]] = []
    for number, turn in enumerate(cast("Iterable[object]", turns)):
        if not is_sequence(turn) or len(turn) != 2:
            raise BadInput("turn {number}: expected a (speaker, audiences) pair", number=number)
        speaker, audiences = turn
        speakers.append((_check_name(speaker, "a speaker"), _check_names(audiences)))
    if not speakers:
        raise BadInput("there is no turn: pass request([(speaker, [audience, …]), …])")
    return speakers


def _check_names(audiences: object) -> list[str]:
    if isinstance(audiences, str):
        audiences = [name.strip() for name in audiences.split("、")]
    if not isinstance(audiences, Iterable):
        return [_check_name(audiences, "an audience")]
    return [_check_name(name, "an audience") for name in cast("Iterable[object]", audiences)]


def _check_name(name: object, what: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise BadInput("{what}: expected a name, got {name}", what=what, name=repr(name))
    return _check_text(name, what)


def _check_text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise BadInput("{what}: expected a str, got {kind}", what=what, kind=type(text).__name__)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadInput("{what} holds a lone surrogate, which no UTF-8 text can hold", what=what)
    return text
