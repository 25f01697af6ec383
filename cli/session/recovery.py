"""Answers that a crash interrupted: show each one and let the person keep it, ask again or drop it."""

from __future__ import annotations

from openai2.cli.session.line_input import LineInput
from openai2.cli.session.session import Session
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, one_line, out, visible
from openai2.cli.views.error_text import print_error
from openai2.core import messages as msg
from openai2.errors import Refused
from openai2.history.requests import started_request
from openai2.store import Draft

#: The choices. A prefix selects the first match, so an empty reply means "keep".
KEEP, AGAIN, DROP = _("keep"), _("again"), _("drop")


def offer_recovery(session: Session, line_input: LineInput) -> None:
    """Ask what to do with each interrupted answer. Ctrl-D and Ctrl-C postpone that to the next session."""
    for draft in session.chat.interrupted():
        _show(session, draft)
        try:
            choice = _read_choice(line_input)
        except (EOFError, KeyboardInterrupt):
            note(_("nothing was changed; you will be asked again next time"))
            return
        if choice == KEEP:
            try:
                session.chat.keep(draft)
            except Refused as error:
                print_error(error)
        else:
            session.chat.drop(draft)
            if choice == AGAIN:
                session.ask_again()


def _show(session: Session, draft: Draft) -> None:
    conversation = session.chat.conversation
    with conversation.store.reading() as reader:
        _started, numbers = started_request(reader, conversation.lineage, draft.request)
    question = " ".join(msg.text_of(conversation.message(number)) for number, _kind in numbers)
    note(
        _(
            "The answer to this question was interrupted when the program ended: {question}",
            question=one_line(question),
        )
    )
    if draft.partial is None:
        note(_("(no part of the answer was received)"))
    else:
        out(visible(msg.text_of(msg.decode(draft.partial))))


def _read_choice(line_input: LineInput) -> str:
    choices = (KEEP, AGAIN, DROP)
    while True:
        reply = line_input.read(_("keep it, ask again, or drop it? [keep/again/drop] ")).strip().lower()
        for choice in choices:
            if choice.startswith(reply):
                return choice
