"""Commands of the session that lead elsewhere: to other conversations, to what was, to why it is so."""

from __future__ import annotations

from openai2.cli.arguments import refs
from openai2.cli.session.session import Session
from openai2.cli.session.slash import PLACES, row
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import note, out
from openai2.cli.views.conversation_list import list_lines
from openai2.cli.views.messages import message_lines
from openai2.cli.views.search_hits import hit_lines
from openai2.cli.views.why import why_lines
from openai2.errors import BadInput

#: Lines that `/list` and `/search` show at most; the commands of the shell show all.
_MOST = 20


@row(PLACES, "list", "", _("list the conversations"))
def _list(session: Session, rest: str) -> None:
    engine = session.chat.engine
    for line in list_lines(engine.store, engine.conversations(limit=_MOST), session.chat.conversation.id):
        out(line)


@row(PLACES, "switch", "REF", _("go on with another conversation"))
def _switch(session: Session, rest: str) -> None:
    if not rest:
        raise BadInput("say which conversation: /list shows them, Tab completes their names")
    session.go_to(refs.find_conversation(session.chat.engine, rest))
    session.introduce()
    session.say_where()


@row(PLACES, "new", "[name]", _("begin a conversation; this one stays"))
def _new(session: Session, rest: str) -> None:
    engine = session.chat.engine
    session.go_to(engine.create(rest) if rest else engine.new())
    session.introduce()


@row(PLACES, "fork", "[name]", _("go on from here in a conversation of its own"))
def _fork(session: Session, rest: str) -> None:
    before = session.title
    session.go_to(session.chat.conversation.fork(rest or None), session.chat.MsgMaxCount)
    note(_("going on in {name}; {before} stays as it is", name=session.title, before=before))


@row(PLACES, "search", "TEXT", _("find messages in all conversations"))
def _search(session: Session, rest: str) -> None:
    found = session.chat.engine.search(rest, limit=_MOST)
    for message in found:
        for line in hit_lines(message):
            out(line)
    if not found:
        note(_("nothing was found"))


@row(PLACES, "at", "N", _("show the messages as they stood at version N"))
def _at(session: Session, rest: str) -> None:
    conversation = session.chat.conversation
    if not rest.isdecimal():
        raise BadInput("say which version: this is version {version}", version=conversation.version)
    held = conversation.view_messages(int(rest))
    for line in message_lines(held):
        out(line)
    size = counted("{n} message", "{n} messages", len(held))
    note(_("{name}, version {version}: {size}", name=session.title, version=int(rest), size=size))


@row(PLACES, "why", "", _("say of each message which event put it in, or took it out"))
def _why(session: Session, rest: str) -> None:
    conversation = session.chat.conversation
    for line in why_lines(conversation.why(), conversation.id):
        out(line)
