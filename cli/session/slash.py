"""Slash commands of the session: the table, and the commands on the open conversation.

A command is a function with the decorator `command`; `/help` lists all rows by group. `slash_navigation` adds
commands for other conversations and versions, `slash_files` for files and the clipboard.
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

#: A command's function. Its second argument is the text after the command's name, stripped.
Handler = Callable[[Session, str], None]

#: The groups, in the order of `/help`.
HISTORY, ASK, SETTINGS, CONVERSATIONS, FILES, OTHER = (
    _("Go back"),
    _("Ask again"),
    _("Settings"),
    _("Conversations"),
    _("Files"),
    _("Other"),
)


class Leave(Exception):
    """Raised by `/exit`: leave the session."""


class Row(NamedTuple):
    """A command of the session."""

    group: str
    name: str
    arguments: str
    help: str
    handler: Handler


ROWS: dict[str, Row] = {}


def command(group: str, name: str, arguments: str, help: str) -> Callable[[Handler], Handler]:
    """Return a decorator that adds a function to the table."""

    def add(handler: Handler) -> Handler:
        ROWS[name] = Row(group, name, arguments, help, handler)
        return handler

    return add


def run(session: Session, line: str) -> None:
    """Run the command in *line*. Raises BadInput, Leave, and the errors of the command."""
    name, *rest = line[1:].split(None, 1)
    row = ROWS.get(name)
    if row is None:
        near = get_close_matches(name, ROWS, n=1, cutoff=0.5) or [it for it in ROWS if it.startswith(name)]
        if near:
            raise BadInput("there is no /{name}: did you mean /{near}?", name=name, near=near[0])
        raise BadInput("there is no /{name}: /help lists the commands", name=name)
    if rest and not row.arguments:
        raise BadInput("/{name} takes no argument", name=name)
    row.handler(session, rest[0].strip() if rest else "")


def is_command(line: str) -> bool:
    """True if *line* is a slash command, and not a path, a comment or a question that begins with `//`."""
    found = re.match(r"/([a-z]+)(?!\S)", line)
    return found is not None and (found[1] in ROWS or not os.path.exists(found[0]))


# -- the open conversation


@command(HISTORY, "undo", "[n]", _("undo the last n actions: rounds, rollbacks, pins"))
def _undo(session: Session, argument: str) -> None:
    done = session.chat.undo(_count(argument))
    _report(session, counted("{n} action undone", "{n} actions undone", done) if done else None)


@command(HISTORY, "redo", "[n]", _("redo the last n undone actions"))
def _redo(session: Session, argument: str) -> None:
    done = session.chat.redo(_count(argument))
    _report(session, counted("{n} action redone", "{n} actions redone", done) if done else None)


@command(HISTORY, "rollback", "[n]", _("remove the last n rounds from view"))
def _rollback(session: Session, argument: str) -> None:
    before = len(session.chat.conversation.view())
    session.chat.rollback(_count(argument))
    removed = before - len(session.chat.conversation.view())
    _report(
        session,
        counted("{n} message removed from view", "{n} messages removed from view", removed)
        if removed
        else None,
    )


@command(HISTORY, "history", "", _("show the messages, with their indexes and pins"))
def _history(session: Session, argument: str) -> None:
    items = session.chat.conversation.view_messages()
    for line in message_lines(items):
        out(line)
    if not items:
        note(_("there are no messages yet"))


@command(HISTORY, "pin", "index...", _("protect these messages from removal by the message limit"))
def _pin(session: Session, argument: str) -> None:
    session.chat.pin_messages(*_indexes(argument))
    note(_("pinned"))


@command(HISTORY, "unpin", "index...", _("remove the pins of these messages"))
def _unpin(session: Session, argument: str) -> None:
    session.chat.unpin_messages(*_indexes(argument))
    note(_("unpinned"))


# -- asking again


@command(ASK, "retry", "[model]", _("ask the last question again, of another model if given"))
def _retry(session: Session, argument: str) -> None:
    session.ask_again(argument or None)


@command(ASK, "edit", "[n]", _("edit the last question, or the n-th last, in a fork"))
def _edit(session: Session, argument: str) -> None:
    conversation = session.chat.conversation
    view = conversation.view()
    starts, back = view.round_starts(), _count(argument)
    if not 1 <= back <= len(starts):
        raise Refused(
            counted("there is {n} question to edit", "there are {n} questions to edit", len(starts))
        )
    question = conversation.message(view.ids[starts[-back]])
    name = session.title
    session.go_to(_fork_before(conversation, starts[-back], back), session.chat.MsgMaxCount)
    session.draft, session.attached = _text_and_parts(question)
    note(_("this is a fork; `/switch {name}` goes back to the original", name=name))


def _fork_before(conversation: Conversation, start: int, back: int) -> Conversation:
    """Return a fork whose view ends before the question at index *start*, the *back*-th last.

    Fork at the question's version if the view had the same messages then, else fork now and roll back.
    """
    items = conversation.view_messages()
    first = next(conversation.events()).event
    base = first.base if isinstance(first, ev.Forked) else 0
    version = items[start].id - base
    if version > 0:
        added = next(conversation.events(after=version - 1)).event
        if isinstance(added, ev.MessageAdded) and added.request is not None:
            version = added.request - base
        if version > 1 and conversation.view_messages(version - 1) == items[:start]:
            return conversation.fork(at=version - 1, reason="edit")
    fork = conversation.fork(reason="edit")
    fork.rollback(back)
    return fork


def _text_and_parts(question: msg.Message) -> tuple[str, list[dict[str, Any]]]:
    """Return the text of *question* and its other content parts."""
    content = question.get("content")
    if not is_list(content):
        return msg.text_of(question), []
    parts: list[dict[str, Any]] = [part for part in content if isinstance(part, dict)]
    if parts and parts[0].get("type") == "text":
        return str(parts[0].get("text", "")), parts[1:]
    return "", parts


# -- settings


@command(SETTINGS, "model", "[name]", _("use this model from now on; without a name: show the model"))
def _model(session: Session, argument: str) -> None:
    if argument:
        session.chat.model = session.chosen_model = argument
    note(_("the model is {model}", model=str(session.chat.model)))


@command(SETTINGS, "system", "[text]", _("add and pin a system message; without text: show them"))
def _system(session: Session, argument: str) -> None:
    conversation = session.chat.conversation
    if argument:
        open_chat.add_system(conversation, argument, session.chat.MsgMaxCount)
        note(_("added and pinned"))
        return
    texts = [msg.text_of(item) for item in conversation.messages() if msg.kind(item) == msg.SYSTEM]
    for text in texts:
        out(visible(text))
    if not texts:
        note(_("there is no system message"))


@command(SETTINGS, "max", "[n]", _("send and keep at most n messages; 0 for no limit"))
def _max(session: Session, argument: str) -> None:
    if argument:
        limit = _parse_int(argument)
        if limit < 0:
            raise BadInput("expected a limit of 1 or more, or 0 for no limit, got {limit}", limit=limit)
        session.chat.conversation.configure(limit=limit)
        session.chat.MsgMaxCount = limit or None
    limit = session.chat.MsgMaxCount or 0
    if not limit:
        note(_("there is no limit"))
    else:
        note(counted("at most {n} message is kept", "at most {n} messages are kept", limit))


# -- other commands


@command(OTHER, "help", "", _("list these commands"))
def _help(session: Session, argument: str) -> None:
    usages = {row.name: f"/{row.name} {row.arguments}".rstrip() for row in ROWS.values()}
    indent = max(map(len, usages.values())) + 4
    columns = screen() - 1
    for group in (HISTORY, ASK, SETTINGS, CONVERSATIONS, FILES, OTHER):
        out(paint(group, "bold"))
        for row in (row for row in ROWS.values() if row.group == group):
            if columns < indent + 20:  # too narrow for two columns
                out(f"  {usages[row.name]}")
                lead, lines = " " * 6, list(fold(row.help, columns - 6))
            else:
                lead = " " * indent
                first, *lines = fold(row.help, columns - indent)
                out(pad(f"  {usages[row.name]}", indent) + first)
            for line in lines:
                out(lead + line)
    note(
        _(
            "Alt-Enter inserts a line break, Tab completes, Ctrl-X Ctrl-E opens an editor, Ctrl-C stops an "
            "answer. To ask a question that begins with a slash, type // instead of /."
        )
    )


@command(OTHER, "exit", "", _("leave the session, like Ctrl-D"))
def _exit(session: Session, argument: str) -> None:
    raise Leave


# -- arguments and reports


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput("expected a whole number, got {text}", text=one_line(text)) from None


def _count(argument: str) -> int:
    return _parse_int(argument) if argument else 1


def _indexes(argument: str) -> Sequence[int]:
    if not argument:
        raise BadInput("expected the index of one or more messages: /history shows them")
    return [_parse_int(text) for text in argument.split()]


def _report(session: Session, done: str | None) -> None:
    note(done or _("there is nothing to undo, redo or roll back"))
    if done:
        session.show_last_round()
