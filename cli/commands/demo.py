"""`demo`: a guided tour with the built-in server.

Everything except the model is real: HTTP, the database file, the events. It shows calls and their results.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile

import click

from openai2.chat import Chat
from openai2.cli.arguments.options import db_option
from openai2.cli.session.open_chat import OFFLINE_DELAY, OFFLINE_KEY
from openai2.cli.settings import paths
from openai2.cli.settings.database import engine
from openai2.cli.terminal.help_pages import wrapped
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import is_terminal, out, pad, paint, screen, visible, width
from openai2.cli.views.event_text import EventLog, Layout
from openai2.cli.views.messages import message_lines
from openai2.engine import Engine
from openai2.errors import NameTaken
from openai2.offline import OfflineServer

_CAPITALS = ("英国的首都是什么？", "日本首都是什么？", "意大利的首都是什么？")


@click.command(
    "demo",
    help=_(
        "Show a guided tour: a conversation and its events, a rollback, a pin, a fork, and the proof that "
        "nothing was altered. The built-in server answers by fixed rules, over real HTTP; the database is "
        "a real file, which you can inspect afterwards."
    ),
)
@db_option
def demo(db: str | None) -> None:
    """Show the tour."""
    path = db or os.path.join(tempfile.mkdtemp(prefix="openai2-demo-"), "openai2.db")
    paths.bypass_proxy_for_loopback()
    with (
        OfflineServer(delay=OFFLINE_DELAY if is_terminal(sys.stdout) else 0.0) as server,
        engine(path) as opened,
    ):
        Tour(opened, server).run()
    _heading(_("Try it yourself"))
    for command in ("chat --offline", "list", "log", "undo"):
        out(f"  {_own_name()} {command} --db {shlex.quote(path)}")


def _own_name() -> str:
    """Return the name by which a shell finds this command, or the path by which it was called."""
    called = sys.argv[0]
    if shutil.which("openai2") or os.path.basename(called) not in ("openai2", "openai2.exe"):
        return "openai2"
    return shlex.quote(os.path.relpath(called) if os.path.isabs(called) else called)


class Tour:
    """The tour's steps; all conversations are in one database."""

    def __init__(self, engine: Engine, server: OfflineServer) -> None:
        self._engine = engine
        self._server = server

    def run(self) -> None:
        """Show all steps in order."""
        introduction = _(
            "This is openai2 at work. The answers come from a built-in server with a few fixed rules, not "
            "from a language model; its address is {url}. The database is {path}",
            url=self._server.base_url,
            path=visible(self._engine.store.name),
        )
        for line in wrapped(introduction, screen()):
            out(line)
        anna = self._chat("Anna")
        middle = self._show_conversation(anna)
        self._show_rollback(anna)
        self._show_pins(self._chat("Ariel", limit=6))
        self._show_fork(anna, middle)
        self._show_proof()

    def _show_conversation(self, anna: Chat) -> int:
        _heading(_("A conversation"))
        self._ask(anna, "自然数1的后面是几?")
        self._ask(anna, "再往后是几?")
        middle = anna.version
        self._ask(anna, "再往后呢?")
        self._ask(anna, "世界上最大的海洋是哪个?")
        _heading(_("Its events, which never change"))
        self._log(anna, 6)
        return middle

    def _show_rollback(self, anna: Chat) -> None:
        _heading(_("A rollback removes rounds from view, not from history"))
        _call("rollback(2)", str(anna.rollback(2)))
        self._ask(anna, "再往后呢?")
        self._log(anna, 4)
        _call("undo(2)", counted("{n} action undone", "{n} actions undone", anna.undo(2)))
        _call("fetch_messages()", counted("{n} message", "{n} messages", len(anna.fetch_messages())))

    def _show_pins(self, ariel: Chat) -> None:
        _heading(_("MsgMaxCount=6 removes the earliest messages, except pinned ones"))
        for question in _CAPITALS:
            self._ask(ariel, question)
        ariel.pin_messages(0, -2, -1)
        _call("pin_messages(0, -2, -1)", "")
        self._ask(ariel, "美国的首都是什么？")
        for line in message_lines(ariel.conversation.view_messages()):
            out(f"  {line}")

    def _show_fork(self, anna: Chat, version: int) -> None:
        _heading(_("A fork continues from any version; earlier events are shared, not copied"))
        twin = anna.fork(_free_name(self._engine, "Anna's twin"), at=version)
        _call(f"fork(at={version})", counted("{n} message", "{n} messages", len(twin.fetch_messages())))
        self._ask(twin, "法国的首都叫什么？")
        self._log(twin, 4)

    def _show_proof(self) -> None:
        _heading(_("Nothing was altered: every hash is recomputed from the events"))
        report = self._engine.verify()
        events = counted("{n} event", "{n} events", report.events)
        streams = counted("{n} conversation", "{n} conversations", report.conversations)
        problems = counted("{n} problem", "{n} problems", len(report.problems))
        result = _("{events} in {streams}: {problems}", events=events, streams=streams, problems=problems)
        _call("verify()", result)

    def _chat(self, name: str, limit: int | None = None) -> Chat:
        return Chat(
            OFFLINE_KEY,
            self._server.MODEL,
            MsgMaxCount=limit,
            db=self._engine,
            conversation=self._engine.create(_free_name(self._engine, name)),
            base_url=self._server.base_url,
        )

    def _ask(self, chat: Chat, question: str) -> None:
        you, answer = _("you"), _("answer")
        columns = max(width(you), width(answer))
        out(f"  {paint(pad(you, columns), 'bold')} {visible(question)}")
        out(f"  {paint(pad(answer, columns), 'bold')} ", end="")
        for piece in chat.stream_request(question):
            out(visible(piece), end="")
            sys.stdout.flush()
        out()

    def _log(self, chat: Chat, last: int) -> None:
        with self._engine.store.reading() as reader:
            events = EventLog(reader, chat.conversation.id, None)
            lines = list(events.lines(Layout(events.last_version), last))
        for line in lines[1:]:  # without the line of the day, which is today
            out(f"  {line}")


def _heading(text: str) -> None:
    out()
    out(paint(text, "cyan"))


def _call(call: str, result: str) -> None:
    out(f"  {paint(call, 'dim')}  {visible(result)}".rstrip())


def _free_name(engine: Engine, name: str) -> str:
    """Return *name*, with a number appended if a conversation has it already."""
    taken = {line.name for line in engine.conversations(archived=None)}
    for number in range(1, len(taken) + 2):
        candidate = name if number == 1 else f"{name} {number}"
        if candidate not in taken:
            return candidate
    raise NameTaken("there is a conversation named {name} already", name=name)


COMMANDS = {"demo": demo}
