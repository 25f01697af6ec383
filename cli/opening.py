"""From the options of `chat` and `newchat` to a Chat that is ready to ask.

Rules: the nearest word wins. For the model: `-m`, what the conversation was last talked in with,
OPENAI2_MODEL, the default; for the key: `--key`, OPENAI_API_KEY, the key file. Only what a person chose
for a conversation (`-m`, `--max-messages`) is noted in it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from openai2 import events as ev
from openai2 import messages as msg
from openai2.chat import Chat
from openai2.cli import home, refs
from openai2.cli.keyfile import KeyFile
from openai2.cli.options import engine
from openai2.cli.render import is_terminal, note
from openai2.cli.words import _
from openai2.conversation import Conversation
from openai2.dialogue import DEFAULT_MODEL
from openai2.engine import Engine
from openai2.errors import AmbiguousReference, NoKey, Refused, UnknownConversation
from openai2.keys import AKPool, check_key
from openai2.turn import State

#: Seconds between the characters of an offline answer on a terminal: about as fast as people read.
PACE = 0.03
#: What the built-in server is sent for a key. It stands in no text, for what looks like the key is masked.
NO_KEY = "the-built-in-server-needs-no-key"


class Wishes(NamedTuple):
    """The options as they were given."""

    db: str | None
    conversation: str | None
    model: str | None
    system: str | None
    max_messages: int | None
    base_url: str | None
    key: str | None
    offline: bool


@contextmanager
def opened(wishes: Wishes, *, fresh: bool) -> Generator[Chat, None, None]:
    """The chat that the options describe; *fresh*: in a new conversation."""
    _check_system(wishes)
    with _server(wishes) as (base_url, key, model), engine(wishes.db) as opened_engine:
        conversation = _fresh(opened_engine, wishes) if fresh else _continued(opened_engine, wishes)
        if wishes.model or wishes.max_messages:
            conversation.configure(wishes.model, wishes.max_messages)
        if wishes.system is not None:
            add_system(conversation, wishes.system)
        settings = conversation.settings()
        if model is None:
            model = settings.model or home.model() or DEFAULT_MODEL
        with Chat(
            key,
            model,
            MsgMaxCount=settings.limit,
            db=opened_engine,
            conversation=conversation,
            base_url=base_url,
        ) as chat:
            yield chat


def _check_system(wishes: Wishes) -> None:
    """Refuse a system message that says nothing, before anything is written."""
    if wishes.system is not None and not wishes.system.strip():
        raise Refused("the system message is empty")


def add_system(conversation: Conversation, text: str) -> None:
    """Add a system message and pin it, in one step; one that says the same and is pinned stays alone."""
    message = msg.system_msg(text)
    if any(held.pinned and held.message == message for held in conversation.held()):
        return
    encoded = msgspec.Raw(msg.encode(message, "the system message"))

    def decide(state: State) -> list[ev.Event]:
        return [ev.MessageAdded(message=encoded), ev.Pinned(messages=[state.next_id])]

    conversation.commit(decide)


def key_or_pool(given: str | None) -> str | AKPool:
    """The key, or the pool of keys, to ask with. Raises NoKey, which names the ways out."""
    key = given or home.environment_key()
    if key is not None:
        return check_key(key)
    kept = KeyFile(home.keys()).read()
    if not kept:
        raise NoKey(
            "there is no API key: `openai2 add_apikey` keeps one, OPENAI_API_KEY names one, "
            "and --offline does without"
        )
    return kept[0] if len(kept) == 1 else AKPool(kept)


@contextmanager
def _server(wishes: Wishes) -> Generator[tuple[str | None, str | AKPool, str | None], None, None]:
    """Address, key and model of the server to ask; None leaves the choice of them open."""
    if not wishes.offline:
        yield wishes.base_url or home.base_url(), key_or_pool(wishes.key), wishes.model
        return
    from openai2.offline import OfflineServer

    home.reach_loopback_directly()
    note(_("offline: fixed rules answer here, not a language model"))
    with OfflineServer(delay=PACE if is_terminal(sys.stdout) else 0.0) as server:
        # On record it says who answered, rather than the name of a model that did not.
        yield server.base_url, NO_KEY, wishes.model or server.MODEL


def _fresh(engine: Engine, wishes: Wishes) -> Conversation:
    if wishes.conversation is None:
        return engine.new()
    return engine.create(wishes.conversation)


def _continued(engine: Engine, wishes: Wishes) -> Conversation:
    reference = wishes.conversation
    if reference is None:
        return engine.current() or engine.new()
    name, at, _version = reference.partition("@")
    if at:
        raise Refused(
            "a conversation goes on at its end: `openai2 fork {reference}` makes one that goes on from there",
            reference=reference,
        )
    try:
        conversation = refs.find(engine, name).conversation
    except AmbiguousReference:
        raise
    except UnknownConversation:
        note(_("there is no conversation {name} yet: it begins now", name=name))
        return engine.create(name)
    found = conversation.name
    if found is not None and found != name and conversation.id != name:
        note(_("going on with {name}", name=found))
    return conversation
