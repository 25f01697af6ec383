"""Slash commands for other conversations and earlier versions, and for the reasons of the view."""

from __future__ import annotations

from openai2.cli.arguments import refs
from openai2.cli.session.session import Session
from openai2.cli.session.slash import CONVERSATIONS, command
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import note, out
from openai2.cli.views.conversation_list import list_lines
from openai2.cli.views.messages import message_lines
from openai2.cli.views.search_hits import hit_lines
from openai2.cli.views.why import why_lines
from openai2.errors import BadInput

#: Maximum of entries that `/list` and `/search` show; the commands of the shell show all.
_MAX_ENTRIES = 20


@command(CONVERSATIONS, "list", "", _("list the conversations"))
def _list(session: Session, argument: str) -> None:
    engine = session.chat.engine
    conversations = engine.conversations(limit=_MAX_ENTRIES)
    for line in list_lines(engine.store, conversations, session.chat.conversation.id):
        out(line)


@command(CONVERSATIONS, "switch", "REF", _("continue another conversation"))
def _switch(session: Session, argument: str) -> None:
    if not argument:
        raise BadInput("expected a conversation: /list shows them, Tab completes their names")
    session.go_to(refs.find_conversation(session.chat.engine, argument))
    session.introduce()
    session.show_last_round()


@command(CONVERSATIONS, "new", "[name]", _("start a new conversation; this one is kept"))
def _new(session: Session, argument: str) -> None:
    engine = session.chat.engine
    session.go_to(engine.create(argument) if argument else engine.new())
    session.introduce()


@command(CONVERSATIONS, "fork", "[name]", _("continue in a fork of this conversation"))
def _fork(session: Session, argument: str) -> None:
    before = session.title
    session.go_to(session.chat.conversation.fork(argument or None), session.chat.MsgMaxCount)
    note(_("continuing in {name}; {before} is unchanged", name=session.title, before=before))


@command(CONVERSATIONS, "search", "TEXT", _("find messages in all conversations"))
def _search(session: Session, argument: str) -> None:
    hits = session.chat.engine.search(argument, limit=_MAX_ENTRIES)
    for hit in hits:
        for line in hit_lines(hit):
            out(line)
    if not hits:
        note(_("nothing was found"))


@command(CONVERSATIONS, "at", "N", _("show the messages at version N"))
def _at(session: Session, argument: str) -> None:
    conversation = session.chat.conversation
    if not argument.isdecimal():
        raise BadInput("expected a version number: the latest is {version}", version=conversation.version)
    items = conversation.view_messages(int(argument))
    for line in message_lines(items):
        out(line)
    size = counted("{n} message", "{n} messages", len(items))
    note(_("{name}, version {version}: {size}", name=session.title, version=int(argument), size=size))


@command(CONVERSATIONS, "why", "", _("show which event added or removed each message"))
def _why(session: Session, argument: str) -> None:
    conversation = session.chat.conversation
    for line in why_lines(conversation.why(), conversation.id):
        out(line)
