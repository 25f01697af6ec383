"""Translation: every text that the command shows goes through `_`. See docs/languages.md.

Invariants:
- A text is a whole sentence with `{named}` fields, so that it can be translated. The values of the fields are
  data and are not translated.
- Only this module knows the language. It is fixed once per process, because texts at the top of a module are
  translated during import.
- Source texts are English. Other languages are gettext catalogues in `locale/`, loaded with the first text.
"""

from __future__ import annotations

import gettext
import os
import sys
from collections.abc import Mapping
from functools import cache

from openai2.errors import DamagedStore, Openai2Error

DOMAIN = "openai2"
FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "locale")

#: Environment variables that name the language, in order of precedence.
_VARIABLES = ("OPENAI2_LANG", "LC_ALL", "LC_MESSAGES", "LANG", "LANGUAGE")
#: Other names of Simplified Chinese. Traditional Chinese falls back to English.
_ALSO = {"zh": "zh_CN", "zh_SG": "zh_CN", "zh_MY": "zh_CN", "zh_Hans": "zh_CN"}
#: Facts of errors whose values are translated: words of openai2 or of the system, not names.
_WORDS = frozenset(("which", "what", "place", "reason", "thing"))
_ENGLISH = ("", "C", "c", "POSIX", "posix", "en")


def _(text: str, /, **facts: object) -> str:
    """Return *text* translated, its `{named}` fields filled with *facts*."""
    catalogue = _catalogue()
    if catalogue is not None and text:  # the empty text is the key of the catalogue's header
        text = catalogue.gettext(text)
    return text.format(**facts) if facts else text


def counted(one: str, many: str, n: int, /, **facts: object) -> str:
    """Return *one* or *many* translated, depending on *n*, which fills the field `{n}`."""
    catalogue = _catalogue()
    text = (one if n == 1 else many) if catalogue is None else catalogue.ngettext(one, many, n)
    return text.format(n=n, **facts)


def translate_foreign(text: str) -> str:
    """Return *text* of a library or the system translated if the catalogue has it, else unchanged."""
    catalogue = _catalogue()
    return text if catalogue is None or not text else catalogue.gettext(text)


def error_message(error: Openai2Error) -> str:
    """Return the message of *error* translated, including a quoted message of its cause."""
    cause = error.__cause__ or error.__context__
    facts = {
        name: error_message(cause)
        if isinstance(cause, Openai2Error) and fact == str(cause)
        else _translate_fact(name, fact)
        for name, fact in error.facts.items()
    }
    text = _(error.template, **facts)
    if isinstance(error, DamagedStore) and (advice := error.advice):
        text += _("; ") + message(advice.template, advice.facts)
    return text


def message(template: str, facts: Mapping[str, object]) -> str:
    """Return a message of the engine translated: its *template* filled with *facts*."""
    return _(template, **{name: _translate_fact(name, fact) for name, fact in facts.items()})


def _translate_fact(name: str, fact: object) -> object:
    # A nested message is recognised by its attributes, so that light commands need not import its class.
    template = getattr(fact, "template", None)
    if isinstance(template, str):
        return message(template, getattr(fact, "facts", {}))
    return translate_foreign(fact) if name in _WORDS and isinstance(fact, str) else fact


@cache
def language() -> str | None:
    """Return the language of this process as the name of its folder in `locale/`; None for English."""
    asked = next(filter(None, (os.environ.get(name) for name in _VARIABLES)), None) or _windows_language()
    for name in asked.split(":"):  # LANGUAGE may list several
        found = _known(name)
        if found is not None:
            return found or None
    return None


def translate_click() -> None:
    """Translate click's own texts ("Usage:", "No such option …") too.

    click uses gettext's current domain and the language of the environment.
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
    """Return the folder for `zh_CN.UTF-8`, `zh-cn`, `zh` and so on; '' for English, None if it is unknown."""
    parts = asked.partition(".")[0].partition("@")[0].replace("-", "_").split("_")
    if len(parts) > 1:
        parts[1] = parts[1].upper() if len(parts[1]) == 2 else parts[1].title()
    name = "_".join((parts[0].lower(), *parts[1:2]))
    if asked in _ENGLISH or parts[0] in _ENGLISH:
        return ""
    name = _ALSO.get(name, name)
    # The parts come from the environment: only letters may become part of a path.
    found = (it for it in (name, parts[0].lower()) if it.replace("_", "").isalpha())
    return next((it for it in found if os.path.exists(_path(it))), None)


if sys.platform == "win32":

    def _windows_language() -> str:
        """Return the language of the Windows user interface."""
        import ctypes
        import locale

        return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")

else:

    def _windows_language() -> str:
        """Return '': this is not Windows."""
        return ""
