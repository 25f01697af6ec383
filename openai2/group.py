"""GroupChat: several roles in one dialogue, each remark said by somebody to somebody.

Roles and remarks are events, so a program that ends between `add_dialog` and `request` loses nothing. A
request puts the roles, the remarks that came since the last one, and who is to speak into one user
message; once it is answered, those remarks are spent. What the model is told stands in the view, like
any other message.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, MutableMapping, Sequence
from typing import Any, cast

import msgspec

from openai2.api.options import RequestOptions
from openai2.base_chat import BaseChat
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.request_events import RequestSpec
from openai2.core.typeguards import is_dict, is_list, is_sequence
from openai2.drivers import TextStream
from openai2.errors import BadInput, NotARemark

Turn = tuple[str, Sequence[str]]

#: What frames the scene in the question, so that it can be told from the words around it.
OPENING, CLOSING = "<<<REQUEST", "REQUEST>>>"

_ENGLISH = """\
Several people talk with each other. Between the two marks below stands a JSON object: "roles" says who
they are, "dialog" what has been said since you last spoke for them, and "speak" whose remarks are wanted
now, in this order, and to whom. Write each remark as that person would say it, in the language of the
dialog. Answer with nothing but a JSON array, one object for each entry of "speak", with the keys
"speaker", "audiences" and "remark"."""

_CHINESE = """\
有多个角色在互相交谈。下面两个标记之间是一个 JSON 对象："roles" 说明各人是谁，\
"dialog" 是自你上次代言以来的对话，"speak" 依次列出现在要请谁对谁说话。请以各角色的口吻写出他们的话，\
语言与对话一致。只回答一个 JSON 数组，"speak" 的每一项对应一个对象，键为 "speaker"、"audiences"、"remark"。"""

_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


class Remark(msgspec.Struct, frozen=True):
    """What somebody said to somebody."""

    speaker: str
    audiences: list[str]
    remark: str


class Roles(MutableMapping[str, str]):
    """A group chat's roles, name to description; every change is an event."""

    def __init__(self, group: GroupChat) -> None:
        self._group = group

    @property
    def _conversation(self) -> Conversation:
        return self._group.conversation

    def __getitem__(self, name: str) -> str:
        return self._conversation.roles()[name]

    def __setitem__(self, name: str, description: str) -> None:
        _name(name, "a role's name")
        _text(description, "a role's description")
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


class GroupChat(BaseChat):
    """A dialogue in which the model speaks for several roles. Arguments as for `Chat`."""

    @property
    def roles(self) -> Roles:
        """The roles, name to description, to be read and set like a dict; none at first."""
        return Roles(self)

    @roles.setter
    def roles(self, roles: dict[str, str]) -> None:
        known = self.roles
        for name in set(known) - set(roles):
            del known[name]
        known.update(roles)

    def add_dialog(self, speaker: str, audiences: Sequence[str], remark: str) -> None:
        """Put on record that *speaker* said *remark* to *audiences*; the next request tells the model.

        Raises BadInput (a ValueError) for a name or a remark that is none.
        """
        event = ev.RemarkAdded(
            speaker=_name(speaker, "a speaker"), audiences=_names(audiences), remark=_text(remark, "a remark")
        )
        self.conversation.commit(lambda state: [event])

    def pending_remarks(self) -> list[Remark]:
        """The remarks that no request has told the model yet."""
        return [Remark(e.speaker, list(e.audiences), e.remark) for e in self.conversation.remarks()]

    def request(self, turns: Iterable[Turn], **options: Any) -> str:
        """Let the model speak, as each of *turns* says: (speaker, audiences). Returns the model's text.

        Raises the `openai` exception of a failed request; the remarks then still wait.
        """
        return self._run(*self._ask(turns, options, stream=False)).text

    def stream_request(self, turns: Iterable[Turn], **options: Any) -> Iterator[str]:
        """`request`, handing out the text as it arrives."""
        return self._drive(*self._ask(turns, options, stream=True))

    async def async_request(self, turns: Iterable[Turn], **options: Any) -> str:
        """`request`, awaited."""
        return (await self._arun(*self._ask(turns, options, stream=False))).text

    def async_stream_request(self, turns: Iterable[Turn], **options: Any) -> AsyncIterator[str]:
        """`stream_request`, as an async iterator."""
        return TextStream(self._adrive(*self._ask(turns, options, stream=True)))

    def request_remarks(self, turns: Iterable[Turn], **options: Any) -> list[Remark]:
        """`request`, parsed: what each role said. Raises NotARemark, which shows the text, for none."""
        return parse_remarks(self.request(turns, **options))

    async def async_request_remarks(self, turns: Iterable[Turn], **options: Any) -> list[Remark]:
        """`request_remarks`, awaited."""
        return parse_remarks(await self.async_request(turns, **options))

    def _ask(
        self, turns: Iterable[Turn], options: dict[str, Any], *, stream: bool
    ) -> tuple[RequestSpec, RequestOptions]:
        speak = _turns(turns)
        ids, remarks, roles = self.conversation.group_state()
        text = scene(roles, [Remark(e.speaker, list(e.audiences), e.remark) for e in remarks], speak)
        return self._request(msg.question(text, (), ()), options, stream=stream, remarks=ids)


def scene(roles: dict[str, str], remarks: Sequence[Remark], speak: Sequence[tuple[str, list[str]]]) -> str:
    """The user message that puts a scene to the model."""
    block = {
        "roles": roles,
        "dialog": [{"speaker": r.speaker, "audiences": r.audiences, "remark": r.remark} for r in remarks],
        "speak": [{"speaker": speaker, "audiences": audiences} for speaker, audiences in speak],
    }
    text = json.dumps(block, ensure_ascii=False, indent=1)
    words = _CHINESE if _CJK.search(text) else _ENGLISH
    return f"{words}\n\n{OPENING}\n{text}\n{CLOSING}"


def parse_remarks(text: str) -> list[Remark]:
    """The remarks in a model's answer, whatever code fences and talk stand around the JSON.

    Raises NotARemark, which shows the text, where there are none.
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
        remarks.append(Remark(speaker, _told_to(item.get("audiences")), remark))
    return remarks


def _told_to(audiences: Any) -> list[str]:
    if is_list(audiences):
        return [str(name) for name in audiences]
    if isinstance(audiences, str):
        return [name for name in re.split(r"\s*[、,，;；]\s*", audiences) if name]
    return []


def _turns(turns: object) -> list[tuple[str, list[str]]]:
    if not isinstance(turns, Iterable):
        raise BadInput("a request takes (speaker, audiences) pairs, not {kind}", kind=type(turns).__name__)
    speak: list[tuple[str, list[str]]] = []
    for number, turn in enumerate(cast("Iterable[object]", turns)):
        if not is_sequence(turn) or len(turn) != 2:
            raise BadInput("turn {number} is no (speaker, audiences) pair", number=number)
        speaker, audiences = turn
        speak.append((_name(speaker, "a speaker"), _names(audiences)))
    if not speak:
        raise BadInput("nobody is asked to speak: request([(speaker, [audience, …]), …])")
    return speak


def _names(audiences: object) -> list[str]:
    if isinstance(audiences, str) or not isinstance(audiences, Iterable):
        return [_name(audiences, "an audience")]
    return [_name(name, "an audience") for name in cast("Iterable[object]", audiences)]


def _name(name: object, what: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise BadInput("{what} is a name, not {name}", what=what, name=repr(name))
    return _text(name, what)


def _text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise BadInput("{what} is a str, not {kind}", what=what, kind=type(text).__name__)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise BadInput("{what} holds a lone surrogate, which no UTF-8 text can hold", what=what)
    return text
