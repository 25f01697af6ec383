"""What can be said to the session itself: `/undo`, `/pin 0` and the like.

A command is a row of the table: its group, its name, its arguments, what it is for, and a small function. To
add one, write the function and give it the decorator; `/help` lists the rows in their groups. Here are the
table and what goes back and forth in a conversation; `slash_places` leads to other conversations and to
other versions, `slash_files` to files and the clipboard.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from openai2.cli.session import open_chat
from openai2.cli.session.session import Session
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import fold, note, one_line, out, pad, paint, screen, visible
from openai2.cli.views.messages import message_lines
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.typeguards import is_list
from openai2.errors import BadInput, Refused

#: Is given what stands behind the command's name.
Run = Callable[[Session, str], None]

#: The groups, in the order in which `/help` lists them.
BACK, ASK, SETTINGS, PLACES, FILES, REST = (
    _("Go back"),
    _("Ask again"),
    _("Settings"),
    _("Conversations"),
    _("Files"),
    _("The rest"),
)


class Leave(Exception):
    """The person wants to leave the session."""


class Row(NamedTuple):
    """A command of the session."""

    group: str
    name: str
    arguments: str
    help: str
    run: Run


ROWS: dict[str, Row] = {}


def row(group: str, name: str, arguments: str, help: str) -> Callable[[Run], Run]:
    """Put the function into the table."""

    def enter(run: Run) -> Run:
        ROWS[name] = Row(group, name, arguments, help, run)
        return run

    return enter


def run(session: Session, line: str) -> None:
    """Do what a line that begins with a slash says. Raises BadInput, Leave, and what it leads to."""
    name, *rest = line[1:].split(None, 1)
    found = ROWS.get(name)
    if found is None:
        near = get_close_matches(name, ROWS, n=1, cutoff=0.5) or [one for one in ROWS if one.startswith(name)]
        if near:
            raise BadInput("there is no /{name}: did you mean /{near}?", name=name, near=near[0])
        raise BadInput("there is no /{name}: /help lists what there is", name=name)
    if rest and not found.arguments:
        raise BadInput("/{name} stands alone, without anything behind it", name=name)
    found.run(session, rest[0].strip() if rest else "")


def is_command(line: str) -> bool:
    """Whether the line is for the session: not a path, not a comment; `//` begins a question with a slash."""
    found = re.match(r"/([a-z]+)(?!\S)", line)
    return found is not None and (found[1] in ROWS or not os.path.exists(found[0]))


# -- the conversation as it stands


@row(BACK, "undo", "[n]", _("undo the last action: a round, a rollback, a pin"))
def _undo(session: Session, rest: str) -> None:
    done = session.chat.undo(_count(rest))
    _stepped(session, counted("{n} action undone", "{n} actions undone", done) if done else None)


@row(BACK, "redo", "[n]", _("take the last undo back"))
def _redo(session: Session, rest: str) -> None:
    done = session.chat.redo(_count(rest))
    _stepped(session, counted("{n} action redone", "{n} actions redone", done) if done else None)


@row(BACK, "rollback", "[n]", _("take the last n rounds out"))
def _rollback(session: Session, rest: str) -> None:
    before = len(session.chat.conversation.view())
    session.chat.rollback(_count(rest))
    gone = before - len(session.chat.conversation.view())
    _stepped(session, counted("{n} message taken out", "{n} messages taken out", gone) if gone else None)


@row(BACK, "history", "", _("show the messages, with their indexes and pins"))
def _history(session: Session, rest: str) -> None:
    held = session.chat.conversation.view_messages()
    for line in message_lines(held):
        out(line)
    if not held:
        note(_("nothing has been said yet"))


@row(BACK, "pin", "index...", _("keep these messages from being removed by a limit"))
def _pin(session: Session, rest: str) -> None:
    session.chat.pin_messages(*_indexes(rest))
    note(_("pinned"))


@row(BACK, "unpin", "index...", _("let these messages go again"))
def _unpin(session: Session, rest: str) -> None:
    session.chat.unpin_messages(*_indexes(rest))
    note(_("unpinned"))


# -- asking again


@row(ASK, "retry", "[model]", _("ask the last question again, perhaps another model"))
def _retry(session: Session, rest: str) -> None:
    session.ask_again(rest or None)


@row(ASK, "edit", "[n]", _("change the last question, or the n-th last, in a fork"))
def _edit(session: Session, rest: str) -> None:
    conversation = session.chat.conversation
    view = conversation.view()
    starts, back = view.round_starts(), _count(rest)
    if not 1 <= back <= len(starts):
        raise Refused(
            counted("there is {n} question to change", "there are {n} questions to change", len(starts))
        )
    question = conversation.message(view.ids[starts[-back]])
    name = session.title
    session.go_to(_before(conversation, starts[-back], back), session.chat.MsgMaxCount)
    session.draft, session.attached = _taken_apart(question)
    note(_("this is a fork; `/switch {name}` goes back to what was", name=name))


def _before(conversation: Conversation, start: int, back: int) -> Conversation:
    """A fork that stands where that question was asked: at that version, if the view was then what it is now
    before the question; else of today, the last rounds rolled back."""
    held = conversation.view_messages()
    first = next(conversation.events()).event
    base = first.base if isinstance(first, ev.Forked) else 0
    version = held[start].id - base
    if version > 0:
        added = next(conversation.events(after=version - 1)).event
        if isinstance(added, ev.MessageAdded) and added.request is not None:
            version = added.request - base
        if version > 1 and conversation.view_messages(version - 1) == held[:start]:
            return conversation.fork(at=version - 1, reason="edit")
    twin = conversation.fork(reason="edit")
    twin.rollback(back)
    return twin


def _taken_apart(question: msg.Message) -> tuple[str, list[dict[str, Any]]]:
    """A question's text, and the parts that went with it."""
    content = question.get("content")
    if not is_list(content):
        return msg.text_of(question), []
    parts: list[dict[str, Any]] = [part for part in content if isinstance(part, dict)]
    if parts and parts[0].get("type") == "text":
        return str(parts[0].get("text", "")), parts[1:]
    return "", parts


# -- settings


@row(SETTINGS, "model", "[name]", _("ask this model from now on; alone: which one is asked"))
def _model(session: Session, rest: str) -> None:
    if rest:
        session.chat.conversation.configure(model=rest)
        session.chat.model = rest
    note(_("the model is {model}", model=str(session.chat.model)))


@row(SETTINGS, "system", "[text]", _("add a system message, and pin it; alone: show what there is"))
def _system(session: Session, rest: str) -> None:
    conversation = session.chat.conversation
    if rest:
        open_chat.add_system(conversation, rest)
        note(_("added, and pinned"))
        return
    told = [msg.text_of(held) for held in conversation.messages() if msg.kind(held) == msg.SYSTEM]
    for text in told:
        out(visible(text))
    if not told:
        note(_("there is no system message"))


@row(SETTINGS, "max", "[n]", _("send and keep n messages at most; 0 for no limit in this session"))
def _max(session: Session, rest: str) -> None:
    if rest:
        limit = _whole(rest)
        if limit < 0:
            raise BadInput("a limit is 1 or more, or 0 for none")
        if limit:
            session.chat.conversation.configure(limit=limit)
        session.chat.MsgMaxCount = limit or None
    limit = session.chat.MsgMaxCount or 0
    if not limit:
        note(_("there is no limit"))
    else:
        note(counted("{n} message is kept at most", "{n} messages are kept at most", limit))


# -- the rest


@row(REST, "help", "", _("list these commands"))
def _help(session: Session, rest: str) -> None:
    names = {entry.name: f"/{entry.name} {entry.arguments}".rstrip() for entry in ROWS.values()}
    wide = max(map(len, names.values())) + 4
    columns = screen() - 1
    for group in (BACK, ASK, SETTINGS, PLACES, FILES, REST):
        out(paint(group, "bold"))
        for entry in (entry for entry in ROWS.values() if entry.group == group):
            if columns < wide + 20:  # too narrow for two columns
                out(f"  {names[entry.name]}")
                lead, rows = " " * 6, list(fold(entry.help, columns - 6))
            else:
                lead = " " * wide
                first, *rows = fold(entry.help, columns - wide)
                out(pad(f"  {names[entry.name]}", wide) + first)
            for line in rows:
                out(lead + line)
    note(
        _(
            "Alt-Enter begins another line, Tab completes, Ctrl-X Ctrl-E opens an editor, Ctrl-C stops an "
            "answer; // begins a question with a slash."
        )
    )


@row(REST, "exit", "", _("leave; so does Ctrl-D"))
def _exit(session: Session, rest: str) -> None:
    raise Leave


# -- arguments, and what is said afterwards


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput("{text} is no whole number", text=one_line(text)) from None


def _count(rest: str) -> int:
    return _whole(rest) if rest else 1


def _indexes(rest: str) -> Sequence[int]:
    if not rest:
        raise BadInput("say which messages, by their index: /history shows them")
    return [_whole(text) for text in rest.split()]


def _stepped(session: Session, done: str | None) -> None:
    note(done or _("there is nothing to go back or forward to"))
    if done:
        session.say_where()
