"""References: `REF`, `REF@VERSION`, `REF@{TIME}`, and without a REF the current conversation.

REF is a name, an id, or the unique start of either; a name has no `@` in it. VERSION is a version of the
conversation's own stream. TIME is a day, a minute or a second and means its end, so that a time which
`log` shows leads to the state after that line; it is local time unless it says otherwise.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from openai2.conversation import Conversation
from openai2.engine import Engine
from openai2.errors import BadInput, Refused, UnknownVersion

_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2})?(\.\d{1,6})?)?\s*(Z|[+-]\d{2}:?\d{2})?", re.IGNORECASE
)


class Place(NamedTuple):
    """A conversation, and a version of it; None for today's state."""

    conversation: Conversation
    version: int | None


def find(engine: Engine, reference: str | None) -> Place:
    """What *reference* names. Raises UnknownConversation, AmbiguousReference, UnknownVersion, BadInput."""
    name, at, when = (reference or "").partition("@")
    conversation = engine.find(name) if name else current(engine)
    if not at:
        return Place(conversation, None)
    if when.isascii() and when.isdigit():
        version = int(when)
        conversation.check_version(version)
        return Place(conversation, version)
    if when.startswith("{") and when.endswith("}"):
        return Place(conversation, _version_at(engine, conversation, when[1:-1]))
    raise BadInput(
        "{when} is no version: give a number, as in {name}@12, or a time, as in {name}@{example}",
        when=when or "@",
        name=name,
        example="{2026-11-22T10:05}",
    )


def find_today(engine: Engine, reference: str | None) -> Conversation:
    """The conversation that *reference* names, where a version has no place."""
    place = find(engine, reference)
    if place.version is not None:
        raise BadInput("only the conversation is to be named here, without @{version}", version=place.version)
    return place.conversation


def current(engine: Engine) -> Conversation:
    """The conversation last chatted in. Raises Refused where there is none."""
    conversation = engine.current()
    if conversation is None:
        raise Refused("nothing has been asked yet: `openai2 chat` begins a conversation")
    return conversation


def _version_at(engine: Engine, conversation: Conversation, text: str) -> int:
    with engine.store.reading() as reader:
        version = reader.version_at(conversation.id, _moment(text))
    if version < 1:
        raise UnknownVersion(
            "conversation {conversation} did not exist yet at {time}", conversation=conversation.id, time=text
        )
    return version


def _moment(text: str) -> str:
    """The last moment of the time that *text* names, as the log writes times."""
    match = _TIME.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        day, minute, second, fraction, zone = match.groups()
        start = datetime.fromisoformat(
            f"{day}T{minute or '00:00'}{second or ':00'}{(fraction or '.0').ljust(7, '0')}{_offset(zone)}"
        )
    except ValueError:
        raise BadInput(
            "{text} is no time: write it as {example}", text=text or "{}", example="2026-11-22T10:05"
        ) from None
    if fraction:
        length = timedelta(microseconds=1)
    elif second:
        length = timedelta(seconds=1)
    else:
        length = timedelta(minutes=1) if minute else timedelta(days=1)
    end = (start + length).astimezone(timezone.utc) - timedelta(microseconds=1)
    return end.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _offset(zone: str | None) -> str:
    if not zone:
        return ""
    if zone in "Zz":
        return "+00:00"
    return zone if ":" in zone else f"{zone[:3]}:{zone[3:]}"
