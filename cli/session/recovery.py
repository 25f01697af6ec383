"""Answers that a crash cut off: shown to a person, who says what becomes of them."""

from __future__ import annotations

from openai2.cli.session.line_input import Lines
from openai2.cli.session.session import Session
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, one_line, out, visible
from openai2.core import messages as msg
from openai2.history.lineage import Lineage
from openai2.history.requests import started_request
from openai2.store import Draft

#: What may be answered; the first letter of a word is enough, and an empty answer means the first.
KEEP, AGAIN, DROP = _("keep"), _("again"), _("drop")


def offer(session: Session, lines: Lines) -> None:
    """For each cut answer: keep it, ask again, or drop it. Ctrl-D and Ctrl-C leave it for next time."""
    for draft in session.chat.interrupted():
        _show(session, draft)
        try:
            choice = _choice(lines)
        except (EOFError, KeyboardInterrupt):
            note(_("left as it is; you will be asked again"))
            return
        if choice == KEEP:
            session.chat.keep(draft)
        else:
            session.chat.drop(draft)
            if choice == AGAIN:
                session.ask_again()


def _show(session: Session, draft: Draft) -> None:
    conversation = session.chat.conversation
    with conversation.store.reading() as reader:
        base = Lineage.read(reader, conversation.id).base
        _started, question = started_request(reader, conversation.id, base, draft.request)
    asked = " ".join(msg.text_of(conversation.message(number)) for number, _kind in question)
    note(_("This question's answer was cut off when the program ended: {question}", question=one_line(asked)))
    if draft.partial is None:
        note(_("(nothing of the answer had come)"))
    else:
        out(visible(msg.text_of(msg.decode(draft.partial))))


def _choice(lines: Lines) -> str:
    words = (KEEP, AGAIN, DROP)
    while True:
        typed = lines.read(_("keep it, ask again, or drop it? [keep/again/drop] ")).strip().lower()
        for word in words:
            if word.startswith(typed):
                return word
