"""Sentences for people that travel as data: a template and what fills its places.

Rule: a sentence says something whole, so that the command can say it in another language; what fills its
places is data, a word that catalogues know, or a sentence again. Programs read it in English, by `str()`.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Sentence(NamedTuple):
    """A *template* with `{named}` places, and the *facts* that fill them; made by `sentence`."""

    template: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        return self.template.format(**self.facts) if self.facts else self.template


def sentence(template: str, /, **facts: Any) -> Sentence:
    """The sentence of these words."""
    return Sentence(template, facts)
