"""What can be said to the session itself: `/undo`, `/pin 0` and the like.

A command is a row of the table: its name, its arguments, what it is for, and a small function. To add
one, write the function and give it the decorator; `/help` lists the rows in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from openai2.cli.history import message_lines
from openai2.cli.render import fold, note, out, pad, screen
from openai2.cli.session import Session
from openai2.cli.words import _, counted
from openai2.errors import BadInput

Run = Callable[[Session, Sequence[str]], None]


class Leave(Exception):
    """The person wants to leave the session."""


class Row(NamedTuple):
    """A command of the session."""

    name: str
    arguments: str
    help: str
    run: Run


ROWS: dict[str, Row] = {}


def row(name: str, arguments: str, help: str) -> Callable[[Run], Run]:
    """Put the function into the table."""

    def enter(run: Run) -> Run:
        ROWS[name] = Row(name, arguments, help, run)
        return run

    return enter


def run(session: Session, line: str) -> None:
    """Do what a line that begins with a slash says. Raises BadInput, Leave, and what it leads to."""
    name, *arguments = line[1:].split()
    found = ROWS.get(name)
    if found is None:
        raise BadInput("there is no /{name}: /help lists what there is", name=name)
    found.run(session, arguments)


def is_command(line: str) -> bool:
    """Whether the line is for the session; `//` begins a question that starts with a slash."""
    return line.startswith("/") and len(line.split(None, 1)[0]) > 1 and not line.startswith("//")


# -- the table


@row("help", "", _("list these commands"))
def _help(session: Session, arguments: Sequence[str]) -> None:
    names = [f"/{entry.name} {entry.arguments}".rstrip() for entry in ROWS.values()]
    wide = max(map(len, names)) + 2
    columns = screen()
    for name, entry in zip(names, ROWS.values(), strict=True):
        first, *rest = fold(entry.help, max(columns - wide, 12))
        out(pad(name, wide) + first)
        for line in rest:
            out(" " * wide + line)
    note(_("Alt-Enter begins another line; Ctrl-C stops an answer; // begins a question with a slash."))


@row("history", "", _("show the messages, with their indexes and pins"))
def _history(session: Session, arguments: Sequence[str]) -> None:
    for line in message_lines(session.chat.conversation.held()):
        out(line)


@row("undo", "[n]", _("undo the last action: a round, a rollback, a pin"))
def _undo(session: Session, arguments: Sequence[str]) -> None:
    done = session.chat.undo(_count(arguments))
    _stepped(session, counted("{n} action undone", "{n} actions undone", done) if done else None)


@row("redo", "[n]", _("take the last undo back"))
def _redo(session: Session, arguments: Sequence[str]) -> None:
    done = session.chat.redo(_count(arguments))
    _stepped(session, counted("{n} action redone", "{n} actions redone", done) if done else None)


@row("rollback", "[n]", _("take the last n rounds out"))
def _rollback(session: Session, arguments: Sequence[str]) -> None:
    before = len(session.chat.conversation.view())
    session.chat.rollback(_count(arguments))
    gone = before - len(session.chat.conversation.view())
    _stepped(session, counted("{n} message taken out", "{n} messages taken out", gone))


@row("retry", "", _("ask the last question again"))
def _retry(session: Session, arguments: Sequence[str]) -> None:
    session.ask_again()


@row("pin", "index...", _("keep these messages from being removed by a limit"))
def _pin(session: Session, arguments: Sequence[str]) -> None:
    session.chat.pin_messages(*_indexes(arguments))
    note(_("pinned"))


@row("unpin", "index...", _("let these messages go again"))
def _unpin(session: Session, arguments: Sequence[str]) -> None:
    session.chat.unpin_messages(*_indexes(arguments))
    note(_("unpinned"))


@row("exit", "", _("leave; so does Ctrl-D"))
def _exit(session: Session, arguments: Sequence[str]) -> None:
    raise Leave


# -- arguments, and what is said afterwards


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadInput("{text} is no whole number", text=text) from None


def _count(arguments: Sequence[str]) -> int:
    return _whole(arguments[0]) if arguments else 1


def _indexes(arguments: Sequence[str]) -> list[int]:
    if not arguments:
        raise BadInput("say which messages, by their index: /history shows them")
    return [_whole(text) for text in arguments]


def _stepped(session: Session, done: str | None) -> None:
    note(done or _("there is nothing to go back or forward to"))
    if done:
        session.say_where()
