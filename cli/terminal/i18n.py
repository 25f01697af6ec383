"""Words for people: every text that the command shows goes through `_`.

Rules: a text is a whole sentence with `{named}` places, never put together from halves, so that it can
be said in another language; what fills the places is data and is not translated. This module is the
only one that knows which language that is; docs/languages.md tells how texts and languages are added.

The texts stand in the source in English. Another language is a catalogue of gettext's in `locale/`, which is
read when the first text is asked for. A text at a module's top is said when the module is imported: the
language of a process is settled once.
"""

from __future__ import annotations

import gettext
import os
import sys
from collections.abc import Mapping
from functools import cache

from openai2.errors import Openai2Error

DOMAIN = "openai2"
FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "locale")

#: What the environment may ask for: ours first, then as for every other program.
_ASKED = ("OPENAI2_LANG", "LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE")
#: Simplified Chinese under its other names. Who asks for traditional characters gets English.
_ALSO = {"zh": "zh_CN", "zh_SG": "zh_CN", "zh_MY": "zh_CN", "zh_Hans": "zh_CN"}
#: Facts of errors that are words of ours, or of the system's, and no names.
_WORDS = frozenset(("which", "what", "place", "reason", "thing"))
_ENGLISH = ("", "C", "c", "POSIX", "posix", "en")


def _(text: str, /, **facts: object) -> str:
    """*text* in the person's language, its `{named}` places filled with *facts*."""
    catalogue = _catalogue()
    if catalogue is not None and text:  # gettext has a catalogue's own head under the empty text
        text = catalogue.gettext(text)
    return text.format(**facts) if facts else text


def counted(one: str, many: str, n: int, /, **facts: object) -> str:
    """*one* or *many*, by *n*, which fills the place `{n}`."""
    catalogue = _catalogue()
    text = (one if n == 1 else many) if catalogue is None else catalogue.ngettext(one, many, n)
    return text.format(n=n, **facts)


def known(text: str) -> str:
    """*text*, which comes from elsewhere, in the person's language where that knows it."""
    catalogue = _catalogue()
    return text if catalogue is None or not text else catalogue.gettext(text)


def told(error: Openai2Error) -> str:
    """The sentence of one of our own errors, with what it says of the error below it."""
    below = error.__cause__ or error.__context__
    facts = {
        name: told(below) if isinstance(below, Openai2Error) and fact == str(below) else _said(name, fact)
        for name, fact in error.facts.items()
    }
    return _(error.template, **facts)


def said(template: str, facts: Mapping[str, object]) -> str:
    """A sentence that the engine made."""
    return _(template, **{name: _said(name, fact) for name, fact in facts.items()})


def _said(name: str, fact: object) -> object:
    # Sentences are told by what they have, so that no light command imports their class.
    template = getattr(fact, "template", None)
    if isinstance(template, str):
        return said(template, getattr(fact, "facts", {}))
    return known(fact) if name in _WORDS and isinstance(fact, str) else fact


@cache
def language() -> str | None:
    """The language of this process, as its folder in `locale/` is called; None for English."""
    asked = next(filter(None, (os.environ.get(name) for name in _ASKED)), None) or _of_windows()
    for name in asked.split(":"):  # as LANGUAGE may name several
        found = _known(name)
        if found is not None:
            return found or None
    return None


def let_click_know() -> None:
    """Have click say its own texts ("Usage:", "No such option …") in the same language.

    It asks gettext's current domain, in the language that the environment names.
    """
    name = language()
    if name is None:
        return
    gettext.bindtextdomain(DOMAIN, FOLDER)
    gettext.textdomain(DOMAIN)
    if gettext.find(DOMAIN, FOLDER) != _path(name):
        os.environ["LANGUAGE"] = name


@cache
def _catalogue() -> gettext.NullTranslations | None:
    name = language()
    return None if name is None else gettext.translation(DOMAIN, FOLDER, [name])


def _path(name: str) -> str:
    return os.path.join(FOLDER, name, "LC_MESSAGES", f"{DOMAIN}.mo")


def _known(asked: str) -> str | None:
    """The folder for `zh_CN.UTF-8`, `zh-cn`, `zh` and the like; '' for English, None for what is unknown."""
    parts = asked.partition(".")[0].partition("@")[0].replace("-", "_").split("_")
    if len(parts) > 1:
        parts[1] = parts[1].upper() if len(parts[1]) == 2 else parts[1].title()
    name = "_".join((parts[0].lower(), *parts[1:2]))
    if asked in _ENGLISH or parts[0] in _ENGLISH:
        return ""
    name = _ALSO.get(name, name)
    # The parts came from the environment, and lead to a file only if they are words.
    found = (it for it in (name, parts[0].lower()) if it.replace("_", "").isalpha())
    return next((it for it in found if os.path.exists(_path(it))), None)


if sys.platform == "win32":

    def _of_windows() -> str:
        """The language in which Windows speaks with this person, where the environment says nothing."""
        import ctypes
        import locale

        return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")

else:

    def _of_windows() -> str:
        """Nothing, for this is not Windows."""
        return ""
