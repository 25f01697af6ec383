"""How deep JSON is nested. docs/format.md sets a limit, so that every event can be read again."""

from __future__ import annotations

import re

#: The deepest nesting of an event's data.
MAX_DEPTH = 500
#: The deepest nesting of a message; the data of an event adds a few levels around it.
MAX_MESSAGE_DEPTH = 490

_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def is_deeper(json: bytes, most: int) -> bool:
    """Return True if *json* is nested more than *most* levels deep."""
    if json.count(b"[") + json.count(b"{") <= most:  # nearly always
        return False
    depth = 0
    for match in _STRUCTURE.finditer(json):
        if match[0] in b"[{":
            depth += 1
            if depth > most:
                return True
        elif match[0] in b"]}":
            depth -= 1
    return False
