"""Why a message is or is not in view, as lines of text, for `why` and `/why`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import clip, local, one_line, output_columns
from openai2.core import messages as msg
from openai2.history.why import Cause, Why


def why_lines(reasons: Iterable[Why], conversation: str) -> Iterator[str]:
    """Yield, for each message, a line with its text, then the events that added and removed it.

    *conversation* is the id of the stream whose view is explained; events of others have theirs.
    """
    columns = output_columns()
    for why in reasons:
        for line in _lines(why, conversation):
            yield clip(line, columns)


def _lines(why: Why, conversation: str) -> Iterator[str]:
    mark = "+" if why.in_view else "-" if why.put_in is not None else "?"
    yield f"{mark} " + one_line(f"{why.message.get('role')}: {msg.text_of(why.message)}")
    if why.put_in is None:
        yield "    " + _("never joined the view: its request is open or failed")
        return
    yield "    " + _("added by {cause}", cause=_event(why.put_in, conversation))
    if not why.in_view and why.taken_out is not None:
        yield "    " + _("removed by {cause}", cause=_event(why.taken_out, conversation))


def _event(cause: Cause, conversation: str) -> str:
    place = (
        f"@{cause.version}" if cause.conversation == conversation else f"{cause.conversation}@{cause.version}"
    )
    return f"{place} {cause.type} ({local(cause.time):%Y-%m-%d %H:%M:%S})"
