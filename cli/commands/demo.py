"""`demo`: the tutorial, played against the built-in server, with a look at what is underneath.

Everything in it is real but the model: HTTP, the database file, the events. What is shown are the
results of the calls that are named above them.
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
from openai2.cli.session.open_chat import NO_KEY, PACE
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
        "A guided run: a conversation and the events underneath, a rollback, a pin, a fork, and the proof "
        "that all of it is still as it was written. A built-in server answers by fixed rules, over real "
        "HTTP; the database is a real file, which stays to be looked at."
    ),
)
@db_option
def demo(db: str | None) -> None:
    """Play the demo."""
    path = db or os.path.join(tempfile.mkdtemp(prefix="openai2-demo-"), "openai2.db")
    paths.bypass_proxy_for_loopback()
    with OfflineServer(delay=PACE if is_terminal(sys.stdout) else 0.0) as server, engine(path) as opened:
        Tour(opened, server).play()
    _heading(_("Go on from here"))
    quoted = shlex.quote(path)
    for command in ("chat --offline", "list", "log", "undo"):
        out(f"  {_ourselves()} {command} --db {quoted}")


def _ourselves() -> str:
    """How this command is called from here: by its name where that is found, else as it was called."""
    called = sys.argv[0]
    if shutil.which("openai2") or os.path.basename(called) not in ("openai2", "openai2.exe"):
        return "openai2"
    return shlex.quote(os.path.relpath(called) if os.path.isabs(called) else called)


class Tour:
    """The demo's chats, all in one database."""

    def __init__(self, engine: Engine, server: OfflineServer) -> None:
        self._engine = engine
        self._server = server

    def play(self) -> None:
        """All of it, in order."""
        about = _(
            "This is openai2 at work. No language model answers here, only a built-in server with a few "
            "fixed rules, at {url}. The database: {path}",
            url=self._server.base_url,
            path=self._path(),
        )
        for line in wrapped(about, screen()):
            out(line)
        anna = self._chat("Anna")
        middle = self._conversation(anna)
        self._rollback(anna)
        self._pins(self._chat("Ariel", limit=6))
        self._fork(anna, middle)
        self._proof()

    def _conversation(self, anna: Chat) -> int:
        _heading(_("A conversation"))
        self._ask(anna, "自然数1的后面是几?")
        self._ask(anna, "再往后是几?")
        middle = anna.version
        self._ask(anna, "再往后呢?")
        self._ask(anna, "世界上最大的海洋是哪个?")
        _heading(_("What is underneath: events, which never change"))
        self._log(anna, 6)
        return middle

    def _rollback(self, anna: Chat) -> None:
        _heading(_("A rollback takes rounds out of view, not out of history"))
        _call("rollback(2)", str(anna.rollback(2)))
        self._ask(anna, "再往后呢?")
        self._log(anna, 4)
        _call("undo(2)", counted("{n} action undone", "{n} actions undone", anna.undo(2)))
        _call("fetch_messages()", counted("{n} message", "{n} messages", len(anna.fetch_messages())))

    def _pins(self, ariel: Chat) -> None:
        _heading(_("With MsgMaxCount=6 the earliest messages leave, but for those that are pinned"))
        for question in _CAPITALS:
            self._ask(ariel, question)
        ariel.pin_messages(0, -2, -1)
        _call("pin_messages(0, -2, -1)", "")
        self._ask(ariel, "美国的首都是什么？")
        for line in message_lines(ariel.conversation.view_messages()):
            out(f"  {line}")

    def _fork(self, anna: Chat, version: int) -> None:
        _heading(_("A fork goes on from any version; what came before is shared, not copied"))
        twin = anna.fork(_free(self._engine, "Anna's twin"), at=version)
        _call(f"fork(at={version})", counted("{n} message", "{n} messages", len(twin.fetch_messages())))
        self._ask(twin, "法国的首都叫什么？")
        self._log(twin, 4)

    def _proof(self) -> None:
        _heading(_("Nothing was altered: every hash is recomputed from the events"))
        report = self._engine.verify()
        events = counted("{n} event", "{n} events", report.events)
        streams = counted("{n} conversation", "{n} conversations", report.conversations)
        found = counted("{n} problem", "{n} problems", len(report.problems))
        _call("verify()", _("{events} in {streams}: {found}", events=events, streams=streams, found=found))

    # -- the hands

    def _chat(self, name: str, limit: int | None = None) -> Chat:
        return Chat(
            NO_KEY,
            self._server.MODEL,
            MsgMaxCount=limit,
            db=self._engine,
            conversation=self._engine.create(_free(self._engine, name)),
            base_url=self._server.base_url,
        )

    def _ask(self, chat: Chat, question: str) -> None:
        asks, answers = _("you"), _("answer")
        columns = max(width(asks), width(answers))
        out(f"  {paint(pad(asks, columns), 'bold')} {visible(question)}")
        out(f"  {paint(pad(answers, columns), 'bold')} ", end="")
        for piece in chat.stream_request(question):
            out(visible(piece), end="")
            sys.stdout.flush()
        out()

    def _log(self, chat: Chat, last: int) -> None:
        with self._engine.store.reading() as reader:
            events = EventLog(reader, chat.conversation.id, None)
            lines = list(events.lines(Layout(events.last_version), last))[1:]  # the day is today
        for line in lines:
            out(f"  {line}")

    def _path(self) -> str:
        return visible(self._engine.store.name)


def _heading(text: str) -> None:
    out()
    out(paint(text, "cyan"))


def _call(call: str, result: str) -> None:
    out(f"  {paint(call, 'dim')}  {visible(result)}".rstrip())


def _free(engine: Engine, name: str) -> str:
    """*name*, or with a number behind it where a conversation has that name already."""
    taken = {line.name for line in engine.conversations(archived=None)}
    for number in range(1, len(taken) + 2):
        candidate = name if number == 1 else f"{name} {number}"
        if candidate not in taken:
            return candidate
    raise NameTaken("there is a conversation named {name} already", name=name)


COMMANDS = {"demo": demo}
