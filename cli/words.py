"""Words for people: every text that the command shows goes through `_`.

Rules: a text is a whole sentence with `{named}` places, never put together from halves, so that it can
be said in another language; what fills the places is data and is not translated. This module is the
only one that would know which language that is.
"""

from __future__ import annotations

from openai2.errors import Openai2Error


def _(text: str, /, **facts: object) -> str:
    """*text* in the person's language, its `{named}` places filled with *facts*."""
    return text.format(**facts) if facts else text


def counted(one: str, many: str, n: int, /, **facts: object) -> str:
    """*one* or *many*, by *n*, which fills the place `{n}`."""
    return (one if n == 1 else many).format(n=n, **facts)


def told(error: Openai2Error) -> str:
    """The sentence of one of our own errors."""
    return _(error.template, **error.facts)
