"""Saved templates: a prompt with its system message, model and options, each in a JSON file of one folder.

`chat --save NAME` writes a template and `chat -t NAME` uses it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from openai2.cli.settings import paths, private_files
from openai2.cli.terminal.i18n import _
from openai2.errors import BadInput

_INPUT = "{input}"
_NAME = re.compile(r"[\w][\w.-]{0,63}")


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The content of a template's file."""

    prompt: str | None = None
    system: str | None = None
    model: str | None = None
    options: dict[str, Any] = {}

    def question(self, text: str | None) -> str | None:
        """Return the question: the prompt with *text* in place of `{input}`, or after an empty line.

        Returns None if there is neither a prompt nor a text. Raises BadInput if `{input}` gets no text.
        """
        if self.prompt is not None and _INPUT in self.prompt:
            if text is None:
                raise BadInput("the template needs a text for {input}: give a PROMPT", input=_INPUT)
            return self.prompt.replace(_INPUT, text)
        return text if self.prompt is None else "\n\n".join(filter(None, (self.prompt, text)))


_decode = msgspec.json.Decoder(Template, strict=True).decode


def read(name: str) -> Template:
    """Return the template *name*. Raises BadInput if it does not exist or is not valid."""
    try:
        return _decode(_path(name).read_bytes())
    except FileNotFoundError:
        existing = ", ".join(names()) or _("none")
        raise BadInput(
            "there is no template {name}; saved templates: {names}", name=name, names=existing
        ) from None
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise BadInput("invalid template {name}: {reason}", name=name, reason=str(fault)) from None


def save(name: str, template: Template) -> None:
    """Write a template, replacing one of the same name. Raises BadInput for a bad name."""
    path = _path(name)
    with private_files.locked(path):
        private_files.replace(
            path, msgspec.json.format(msgspec.json.encode(template), indent=2).decode() + "\n"
        )


def remove(name: str) -> None:
    """Delete the template *name*. Raises BadInput if it does not exist or is not valid."""
    read(name)
    _path(name).unlink()


def names() -> list[str]:
    """Return the names of all templates, sorted."""
    return sorted(path.stem for path in paths.templates().glob("*.json"))


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise BadInput("a template's name must be a word of at most 64 letters, digits, . - and _")
    return paths.templates() / f"{name}.json"
