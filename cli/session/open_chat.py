"""Open a Chat from the options of `chat` and `newchat`.

Invariants (the first source that is set wins):
- Model: `-m`, the model of `--profile`, the conversation's last model, OPENAI2_MODEL, the model of the
  config's profile, the default.
- Server: `--base-url`, `--profile`, OPENAI_BASE_URL, the config's profile, the key's own server.
- Key: see `choose_key`.
- Only settings chosen for a conversation (`-m`, `--max-messages`) are recorded in it.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from openai2.base_chat import DEFAULT_MODEL
from openai2.chat import Chat
from openai2.cli.arguments import refs
from openai2.cli.settings import config_file, paths
from openai2.cli.settings.choose_key import choose_key
from openai2.cli.settings.database import engine
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import is_terminal, note
from openai2.conversation import Conversation
from openai2.core import decisions
from openai2.core import messages as msg
from openai2.engine import Engine
from openai2.errors import AmbiguousReference, BadInput, Refused, UnknownConversation
from openai2.keys.pool import AKPool

#: Seconds between the characters of an offline answer on a terminal, about the speed of reading.
OFFLINE_DELAY = 0.03
#: The key for the offline server. No text contains it, because text that equals a key is masked.
OFFLINE_KEY = "the-built-in-server-needs-no-key"
#: Arguments of a request that the command sets by other options or by PROMPT.
_NOT_OPTIONS = frozenset(("api_key", "base_url", "model", "messages", "stream"))


class ChatOptions(NamedTuple):
    """The options of the command line; *options* are those of the API (`-o`)."""

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
    """A server, and how to ask it.

    *model* is the chosen model, *default_model* the profile's. *options* are arguments of Chat.
    """

    key: str | AKPool
    model: str | None
    default_model: str | None
    options: dict[str, Any]


@contextmanager
def open_chat(chosen: ChatOptions, *, new: bool) -> Generator[Chat, None, None]:
    """Yield the chat that the options describe, in a new conversation if *new*."""
    if chosen.system is not None and not chosen.system.strip():
        raise Refused("the system message is empty")
    with resolve_server(chosen) as server, engine(chosen.db) as opened_engine:
        find_conversation = _create_conversation if new else _continue_conversation
        conversation = find_conversation(opened_engine, chosen.conversation)
        if chosen.max_messages is not None:
            conversation.configure(limit=chosen.max_messages)
        settings = conversation.settings()
        if chosen.system is not None:
            add_system(conversation, chosen.system, settings.limit or None)
        with Chat(
            server.key,
            server.model or settings.model or paths.model() or server.default_model or DEFAULT_MODEL,
            MsgMaxCount=settings.limit or None,
            db=opened_engine,
            conversation=conversation,
            **server.options,
        ) as chat:
            note_offline(chosen)
            yield chat


def add_system(conversation: Conversation, text: str, limit: int | None) -> None:
    """Add a pinned system message in one transaction, unless the same one is pinned already.

    Raises NoRoom if pinned messages leave no room for it under the *limit*.
    """
    message = msg.system_msg(text)
    if any(item.pinned and item.message == message for item in conversation.view_messages()):
        return
    encoded = [msg.encode(message, "the system message")]
    conversation.commit(
        lambda state: decisions.add_within(limit, state.view, state.next_id, encoded, pinned=True)
    )


def note_offline(chosen: ChatOptions) -> None:
    """Note that no language model answers, if so. Call it after all checks of the options."""
    if chosen.offline:
        note(_("offline: fixed rules answer here, not a language model"))


@contextmanager
def resolve_server(chosen: ChatOptions) -> Generator[Server, None, None]:
    """Yield the server to ask; start the offline server if chosen. Raises NoKey, BadInput."""
    options = _check_options(chosen.options)
    if not chosen.offline:
        yield _online_server(chosen, options)
        return
    from openai2.offline import OfflineServer

    paths.bypass_proxy_for_loopback()
    with OfflineServer(delay=OFFLINE_DELAY if is_terminal(sys.stdout) else 0.0) as built_in:
        # Record the offline server's own model name: a configured model did not answer.
        model = chosen.model or built_in.MODEL
        yield Server(OFFLINE_KEY, model, None, {**options, "base_url": built_in.base_url})


def _online_server(chosen: ChatOptions, options: dict[str, Any]) -> Server:
    selected = config_file.choose_profile(chosen.profile)
    named = selected if chosen.profile is not None else None
    base_url = chosen.base_url
    if base_url is None and named is None:
        base_url = paths.base_url()
    # The config's default profile applies only if no server was named.
    profile = selected if named is not None or base_url is None else None
    if profile is not None:
        _check_options(profile.profile.create)
        profile_options = profile.profile.options(base_url)
        base_url = profile_options.pop("base_url", base_url)
        options = {**profile_options, **options}
    key, base_url = choose_key(chosen.key, base_url, profile)
    model = chosen.model or (named.profile.model if named is not None else None)
    default_model = profile.profile.model if profile is not None else None
    return Server(key, model, default_model, {**options, "base_url": base_url})


def _check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the API options, checked before anything is written. Raises BadInput for an unknown one."""
    if not options:
        return {}
    from openai2.api import options as api_options

    for name in options:
        if name in _NOT_OPTIONS:
            raise BadInput("-o {name} is not allowed: use the command's own option or PROMPT", name=name)
    create = api_options.split_options(options).create
    try:
        api_options.check_create_options(create)
    except TypeError as fault:
        raise BadInput("{reason}", reason=str(fault)) from None
    return dict(options)


def _create_conversation(engine: Engine, name: str | None) -> Conversation:
    return engine.new() if name is None else engine.create(name)


def _continue_conversation(engine: Engine, reference: str | None) -> Conversation:
    if reference is None:
        return engine.current() or engine.new()
    name, at, _version = reference.partition("@")
    if at:
        raise Refused(
            "cannot continue from an earlier version: `openai2 fork {reference}` makes a fork that can",
            reference=reference,
        )
    try:
        conversation = refs.find(engine, name).conversation
    except AmbiguousReference:
        raise
    except UnknownConversation:
        note(_("there is no conversation {name} yet: it is created now", name=name))
        return engine.open_or_create(name)  # another process may create it first
    found = conversation.name
    if found is not None and found != name and conversation.id != name:
        note(_("continuing {name}", name=found))
    return conversation
