"""References to conversations: `REF`, `REF@VERSION`, `REF@{TIME}`; without a REF, the current conversation.

- REF is a name, an id, or a unique start of either. A name contains no `@`.
- VERSION is a version of the conversation's own stream.
- TIME is a day, minute or second, local unless it has a time zone. It refers to the state at its end, so a
  time that `log` shows leads to the state after that event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from openai2.errors import BadInput, Refused

if TYPE_CHECKING:
    from openai2.conversation import Conversation
    from openai2.engine import Engine


class Place(NamedTuple):
    """A conversation and one of its versions; None for the current state."""

    conversation: Conversation
    version: int | None


def find(engine: Engine, reference: str | None) -> Place:
    """Return the place that *reference* names.

    Raises UnknownConversation, AmbiguousReference, UnknownVersion, BadInput (neither a version nor a time),
    Refused (no current conversation).
    """
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
        "invalid version {when}: give a number, as in {name}@12, or a time, as in {name}@{example}",
        when=when or "@",
        name=name,
        example="{2026-11-22T10:05}",
    )


def find_conversation(engine: Engine, reference: str | None) -> Conversation:
    """Return the conversation that *reference* names. Raises BadInput if it has a version; see `find`."""
    place = find(engine, reference)
    if place.version is not None:
        raise BadInput("name the conversation only, without @{version}", version=place.version)
    return place.conversation


def current(engine: Engine) -> Conversation:
    """Return the conversation that was last asked in. Raises Refused if there is none."""
    conversation = engine.current()
    if conversation is None:
        raise Refused("there is no current conversation yet: `openai2 chat` starts one")
    return conversation
