"""References: `REF`, `REF@VERSION`, `REF@{TIME}`, and without a REF the current conversation.

REF is a name, an id, or the unique start of either; a name has no `@` in it. VERSION is a version of the
conversation's own stream. TIME is a day, a minute or a second and means its end, so that a time which
`log` shows leads to the state after that line; it is local time unless it says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from openai2.errors import BadInput, Refused

if TYPE_CHECKING:
    from openai2.conversation import Conversation
    from openai2.engine import Engine


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
        return Place(conversation, conversation.version_at(when[1:-1]))
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
