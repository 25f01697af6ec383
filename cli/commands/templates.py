"""Templates: a question that is asked often, with its system message, its model and its options, by name.

A template is a JSON file in a folder of its own; `chat --save NAME` writes one, `chat -t NAME` uses it. What
stands for {input} in its prompt is what was said with it; without {input} that comes after an empty line.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from openai2.cli.arguments.options import json_option
from openai2.cli.settings import paths, private_files
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import clip, is_terminal, note, one_line, out, out_json, pad, screen, width
from openai2.errors import BadInput

INPUT = "{input}"
_NAME = re.compile(r"[\w][\w.-]{0,63}")


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What is kept under a name."""

    prompt: str | None = None
    system: str | None = None
    model: str | None = None
    options: dict[str, Any] = {}

    def question(self, said: str | None) -> str | None:
        """What to ask, where *said* was said with it; None: nothing yet. Raises BadInput."""
        if self.prompt is None:
            return said
        if INPUT in self.prompt:
            if said is None:
                raise BadInput("the template has a place for {input}: say what goes there", input=INPUT)
            return self.prompt.replace(INPUT, said)
        return "\n\n".join(filter(None, (self.prompt, said)))


_decode = msgspec.json.Decoder(Template, strict=True).decode


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise BadInput("a template's name is a word of at most 64 letters, digits, . - and _")
    return paths.templates() / f"{name}.json"


def read(name: str) -> Template:
    """The template of that name. Raises BadInput, which names those that there are."""
    try:
        return _decode(_path(name).read_bytes())
    except FileNotFoundError:
        there = ", ".join(names()) or _("none")
        raise BadInput("there is no template {name}; there are: {names}", name=name, names=there) from None
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise BadInput("the template {name} cannot be used: {reason}", name=name, reason=str(fault)) from None


def save(name: str, template: Template) -> None:
    """Keep a template under that name, in place of an older one."""
    path = _path(name)
    with private_files.locked(path):
        private_files.replace(
            path, msgspec.json.format(msgspec.json.encode(template), indent=2).decode() + "\n"
        )


def names() -> list[str]:
    """The names of all templates, in order."""
    return sorted(path.stem for path in paths.templates().glob("*.json"))


@click.command(
    "template",
    help=_(
        "List the saved templates, show the template NAME, or remove it. `chat -t NAME` asks with one, and "
        "`chat --save NAME` saves what is said with it (-s, -m, -o and PROMPT) instead of asking:\n\n"
        'openai2 chat --save sum -s "You are brief." "Sum this up: {input}"'
    ),
)
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help=_("Remove it."))
@json_option
def template(name: str | None, remove: bool, as_json: bool) -> None:
    """List, show or remove templates."""
    if name is None:
        if remove:
            raise click.UsageError(_("say which template is to be removed"))
        found = {held: read(held) for held in names()}
        out_json(found) if as_json else _list(found)
    elif remove:
        read(name)
        _path(name).unlink()
        note(_("removed the template {name}", name=name))
    else:
        out_json(read(name))


def _list(found: dict[str, Template]) -> None:
    columns = screen() if is_terminal(sys.stdout) else 1_000_000
    wide = max(map(width, found), default=0) + 2
    for name, held in found.items():
        out(clip(pad(name, wide) + one_line(held.prompt or held.system or held.model or ""), columns))
    if not found:
        note(_("no template is saved: `openai2 chat --save NAME` saves one"))


COMMANDS = {"template": template}
