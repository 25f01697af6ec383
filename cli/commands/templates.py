"""`template`: list, show and remove saved templates."""

from __future__ import annotations

import click

from openai2.cli.arguments.options import json_option
from openai2.cli.settings import template_files
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import clip, note, one_line, out, out_json, output_columns, pad, width


@click.command(
    "template",
    help=_(
        "List the saved templates, show the template NAME, or remove it. `chat -t NAME` asks with a "
        "template. `chat --save NAME` saves PROMPT, -s, -m and -o as one, and does not ask:\n\n"
        'openai2 chat --save sum -s "You are brief." "Sum this up: {input}"'
    ),
)
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help=_("Remove the template."))
@json_option
def template(name: str | None, remove: bool, as_json: bool) -> None:
    """List, show or remove templates."""
    if name is None:
        if remove:
            raise click.UsageError(_("--remove needs the NAME of a template"))
        _list(as_json=as_json)
    elif remove:
        template_files.remove(name)
        note(_("removed the template {name}", name=name))
    else:
        out_json(template_files.read(name))


def _list(*, as_json: bool) -> None:
    templates = {name: template_files.read(name) for name in template_files.names()}
    if as_json:
        out_json(templates)
        return
    columns = output_columns()
    name_width = max(map(width, templates), default=0) + 2
    for name, saved in templates.items():
        summary = one_line(saved.prompt or saved.system or saved.model or "")
        out(clip(pad(name, name_width) + summary, columns))
    if not templates:
        note(_("there is no template: `openai2 chat --save NAME` saves one"))


COMMANDS = {"template": template}
