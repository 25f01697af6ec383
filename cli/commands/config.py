"""`config`: show and change the profiles of servers."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from openai2.cli.arguments.options import json_option, parse_value
from openai2.cli.settings import config_file, paths
from openai2.cli.settings.config_file import Config
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, one_line, out, out_json, paint, table
from openai2.errors import BadInput


@click.command(
    "config",
    help=_(
        "Show or change the profiles for `chat --profile`. Without arguments, list all profiles; with "
        "PROFILE, show it; with FIELD, show one of its fields; with VALUE, set that field.\n\n"
        "Fields: like (the built-in profile to extend), base_url, model, keys (names of stored keys), "
        "environment (the variable with its key), key (false: it needs no key), send_reasoning, and the "
        "options client.NAME and create.NAME. VALUE is JSON if valid, else text:\n\n"
        "openai2 config work base_url https://llm.example.org/v1"
    ),
)
@click.argument("profile", required=False)
@click.argument("field", required=False)
@click.argument("value", required=False)
@click.option("--use", is_flag=True, help=_("Make PROFILE the default; without PROFILE, use no default."))
@click.option("--unset", is_flag=True, help=_("Remove FIELD, or the whole PROFILE, from the config."))
@json_option
def config(
    profile: str | None, field: str | None, value: str | None, use: bool, unset: bool, as_json: bool
) -> None:
    """Show or change the profiles."""
    if use or unset or value is not None:
        _change(profile, field, value, use=use, unset=unset)
    elif profile is None:
        _list(as_json=as_json)
    else:
        _show(profile, field)


def _change(profile: str | None, field: str | None, value: str | None, *, use: bool, unset: bool) -> None:
    if (use + unset + (value is not None)) > 1 or (use and field) or (unset and profile is None):
        raise click.UsageError(_("do one thing at a time: set a field, --unset, or --use"))

    def edit(config: Config) -> None:
        if use:
            if profile is not None:
                config_file.resolve(config, profile)
            config.profile = profile
        elif unset:
            _unset(config, profile or "", field)
        else:
            fields = config.profiles.setdefault(profile or "", {})
            parent, key = config_file.locate_field(fields, field or "")
            parent[key] = parse_value(value or "")

    config_file.change(edit)
    note(_("written to {path}", path=str(paths.config())))


def _unset(config: Config, name: str, field: str | None) -> None:
    profile = config.profiles.get(name)
    if profile is None:
        raise BadInput("the config has no profile {name}", name=name)
    if field is None:
        del config.profiles[name]
        config.profile = None if config.profile == name else config.profile
        return
    parent, key = config_file.locate_field(profile, field)
    if key not in parent:
        raise BadInput("profile {name} does not set {field}", name=name, field=field)
    del parent[key]


def _list(*, as_json: bool) -> None:
    config = config_file.read()
    if as_json:
        out_json(config)
        return
    rows = [["  " + _("profile"), _("model"), _("server")]]
    for name in config.names():
        profile = config_file.resolve(config, name).profile
        mark = "* " if name == config.profile else "  "
        rows.append([mark + name, profile.model or "", one_line(profile.base_url or "")])
    header, *lines = table(rows, 1_000_000)
    out(paint(header, "dim"))
    for line in lines:
        out(line)
    note(_("the config file is {path}", path=str(paths.config())))


def _show(name: str, field: str | None) -> None:
    chosen = config_file.resolve(config_file.read(), name)
    fields: dict[str, Any] = {**msgspec.to_builtins(chosen.profile), "keys": chosen.keys}
    if field is None:
        out_json(fields)
        return
    parent, key = config_file.locate_field(fields, field)
    if key not in parent:
        raise BadInput("profile {name} does not set {field}", name=name, field=field)
    out_json(parent[key])


COMMANDS = {"config": config}
