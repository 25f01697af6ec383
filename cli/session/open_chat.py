"""From the options of `chat` and `newchat` to a Chat that is ready to ask.

Rules: the nearest word wins. For the model: `-m`, that of a `--profile`, what the conversation was last
talked in with, OPENAI2_MODEL, that of the config's profile, the default; for the server: `--base-url`, a
`--profile`, OPENAI_BASE_URL, the config's profile, the key's own; for the key see `keychain`. Only what a
person chose for a conversation (`-m`, `--max-messages`) is noted in it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from openai2.base_chat import DEFAULT_MODEL
from openai2.chat import Chat
from openai2.cli.arguments import refs
from openai2.cli.settings import config_file, paths
from openai2.cli.settings.choose_key import choose_key
from openai2.cli.settings.database import engine
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import is_terminal, note
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.request_events import StreamState
from openai2.engine import Engine
from openai2.errors import AmbiguousReference, BadInput, Refused, UnknownConversation
from openai2.keys.pool import AKPool

#: Seconds between the characters of an offline answer on a terminal: about as fast as people read.
PACE = 0.03
#: What the built-in server is sent for a key. It stands in no text, for what looks like the key is masked.
NO_KEY = "the-built-in-server-needs-no-key"
#: What is said by other options, or by nobody.
_NOT_OPTIONS = frozenset(("api_key", "base_url", "model", "messages", "stream"))


class Wishes(NamedTuple):
    """The options as they were given; *options* are those of the API."""

    db: str | None = None
    conversation: str | None = None
    model: str | None = None
    system: str | None = None
    max_messages: int | None = None
    base_url: str | None = None
    key: str | None = None
    offline: bool = False
    profile: str | None = None
    options: Mapping[str, Any] = {}


class Server(NamedTuple):
    """Whom to ask: *model* where it is settled, else *usual* if it has one; *options* are those of Chat."""

    key: str | AKPool
    model: str | None
    usual: str | None
    options: dict[str, Any]


@contextmanager
def opened(wishes: Wishes, *, fresh: bool) -> Generator[Chat, None, None]:
    """The chat that the options describe; *fresh*: in a new conversation."""
    _check_system(wishes)
    with server(wishes) as asked, engine(wishes.db) as opened_engine:
        conversation = _fresh(opened_engine, wishes) if fresh else _continued(opened_engine, wishes)
        if wishes.model or wishes.max_messages:
            conversation.configure(wishes.model, wishes.max_messages)
        if wishes.system is not None:
            add_system(conversation, wishes.system)
        settings = conversation.settings()
        with Chat(
            asked.key,
            asked.model or settings.model or paths.model() or asked.usual or DEFAULT_MODEL,
            MsgMaxCount=settings.limit,
            db=opened_engine,
            conversation=conversation,
            **asked.options,
        ) as chat:
            say_who_answers(wishes)
            yield chat


def _check_system(wishes: Wishes) -> None:
    """Refuse a system message that says nothing, before anything is written."""
    if wishes.system is not None and not wishes.system.strip():
        raise Refused("the system message is empty")


def add_system(conversation: Conversation, text: str) -> None:
    """Add a system message and pin it, in one step; one that says the same and is pinned stays alone."""
    message = msg.system_msg(text)
    if any(held.pinned and held.message == message for held in conversation.view_messages()):
        return
    encoded = msgspec.Raw(msg.encode(message, "the system message"))

    def decide(state: StreamState) -> list[ev.Event]:
        return [ev.MessageAdded(message=encoded), ev.Pinned(messages=[state.next_id])]

    conversation.commit(decide)


def say_who_answers(wishes: Wishes) -> None:
    """That no language model answers, where none does; once all else is known to be in order."""
    if wishes.offline:
        note(_("offline: fixed rules answer here, not a language model"))


@contextmanager
def server(wishes: Wishes) -> Generator[Server, None, None]:
    """The server to ask. Raises NoKey, BadInput."""
    options = _checked(wishes.options)
    if not wishes.offline:
        yield _online(wishes, options)
        return
    from openai2.offline import OfflineServer

    paths.bypass_proxy_for_loopback()
    with OfflineServer(delay=PACE if is_terminal(sys.stdout) else 0.0) as built_in:
        # On record it says who answered, rather than the name of a model that did not.
        model = wishes.model or built_in.MODEL
        yield Server(NO_KEY, model, None, {**options, "base_url": built_in.base_url})


def _online(wishes: Wishes, options: dict[str, Any]) -> Server:
    chosen = config_file.choose_profile(wishes.profile)
    named = chosen if wishes.profile is not None else None
    address = wishes.base_url
    if address is None and named is None:
        address = paths.base_url()
    # A server that is named goes before the one that the config has for whenever none is.
    profile = chosen if named is not None or address is None else None
    if profile is not None:
        _checked(profile.profile.create)
        ground = profile.profile.options(address)
        address = ground.pop("base_url", address)
        options = {**ground, **options}
    key, address = choose_key(wishes.key, address, profile)
    model = wishes.model or (named.profile.model if named is not None else None)
    usual = profile.profile.model if profile is not None else None
    return Server(key, model, usual, {**options, "base_url": address})


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The API's options, before anything is written. Raises BadInput for one that it does not know."""
    if not options:
        return {}
    from openai2.api import options as api_options

    for name in options:
        if name in _NOT_OPTIONS:
            raise BadInput("-o {name} is no option here: there is one of the command for it", name=name)
    create = api_options.split_options(options).create
    try:
        api_options.check_create_options(create)
    except TypeError as fault:
        raise BadInput("{reason}", reason=str(fault)) from None
    return dict(options)


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
        return engine.open_or_create(name)  # another process may be quicker
    found = conversation.name
    if found is not None and found != name and conversation.id != name:
        note(_("going on with {name}", name=found))
    return conversation
