"""The form of an event's columns, as docs/format.md fixes it: id, time, and how deep its data is nested.

A hash only shows that an event is as it was written. These rules hold for any writer.
"""

from __future__ import annotations

from openai2.core.ids import is_id
from openai2.core.nesting import MAX_DEPTH, is_deeper
from openai2.core.times import is_stamp
from openai2.errors import LazyMessage, lazy_message


def check_form(conversation: str, time: str, data: bytes) -> LazyMessage | None:
    """Return what is wrong with the columns of an event, or None."""
    if not is_id(conversation):
        return lazy_message("its conversation has an id that is not one: {id}", id=conversation)
    if not is_stamp(time):
        return lazy_message("its time is not one: {time}", time=time)
    if is_deeper(data, MAX_DEPTH):
        return lazy_message("its data is nested more than {most} deep", most=MAX_DEPTH)
    return None
