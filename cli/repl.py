"""The session's loop: a line in, an answer out, until the person leaves.

Rule: whatever a line leads to, the prompt comes back, unless leaving was asked for.
"""

from __future__ import annotations

from collections.abc import Callable

from openai2.chat import Chat
from openai2.cli import failures, recovery, slash
from openai2.cli.answering import Answers
from openai2.cli.prompt import Lines, lines
from openai2.cli.render import note
from openai2.cli.session import Session
from openai2.cli.words import _


def converse(chat: Chat) -> None:
    """Talk until the person leaves."""
    with Answers() as answers:
        session = Session(chat, answers)
        session.introduce()
        typed = lines()
        _carefully(lambda: recovery.offer(session, typed))
        while _turn(session, typed):
            pass


def _turn(session: Session, typed: Lines) -> bool:
    """One line and what it leads to; False where the person leaves."""
    try:
        line = typed.read()
    except EOFError:
        return False
    except KeyboardInterrupt:
        note(_("Ctrl-D or /exit leaves."))
        return True
    if not line.strip():
        return True
    try:
        if slash.is_command(line):
            _carefully(lambda: slash.run(session, line))
        else:
            question = line[1:] if line.startswith("//") else line
            _carefully(lambda: session.ask(question))
    except slash.Leave:
        return False
    return True


def _carefully(act: Callable[[], None]) -> None:
    """Do it; what goes wrong is one line, and the session goes on."""
    try:
        act()
    except (BrokenPipeError, slash.Leave):
        raise
    except KeyboardInterrupt:
        note(_("stopped"))
    except Exception as error:  # noqa: BLE001 - a session outlives every failure
        failures.tell(error)
