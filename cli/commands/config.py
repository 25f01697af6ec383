"""`config`: profiles, which say where a server is and how it is asked, in a JSON file of one's own.

    {"profile": "work",
     "profiles": {"work": {"like": "azure", "base_url": "https://…", "model": "…", "keys": ["work"],
                           "create": {"temperature": 0.2}}}}

Rules: a profile of one's own builds on the built-in one that it is `like`, or that has its name; what it
says itself goes before. A field that is unknown is named, and nothing is guessed. No key stands in the file:
`keys` names those that `add_apikey` keeps.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from openai2.cli.arguments.options import json_option
from openai2.cli.settings import paths, private_files
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import note, one_line, out, out_json, paint, table
from openai2.core.typeguards import is_dict, is_list
from openai2.errors import BadInput
from openai2.profiles import PROFILES, Profile, profile_from

_PARTS = ("client", "create")  # fields that hold options


class Config(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What the file says: the profile that is used where none is named, and the profiles of one's own."""

    profile: str | None = None
    profiles: dict[str, dict[str, Any]] = {}


class Chosen(msgspec.Struct, frozen=True):
    """A profile, and the names of the kept keys that go with it."""

    profile: Profile
    keys: list[str]


_decode = msgspec.json.Decoder(Config, strict=True).decode


def read() -> Config:
    """The config. Raises BadInput, which names the field that is wrong."""
    path = paths.config()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Config()
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise BadInput(
            "the config {path} cannot be used: {reason}", path=str(path), reason=str(fault)
        ) from None


def chosen(name: str | None) -> Chosen | None:
    """The profile of that name; None: the one that the config names, if it names one. Raises BadInput."""
    config = read()
    name = name or config.profile
    return None if name is None else _resolved(config, name)


def _resolved(config: Config, name: str) -> Chosen:
    own = dict(config.profiles.get(name, {}))
    if name not in config.profiles and name not in PROFILES:
        names = ", ".join(dict.fromkeys([*config.profiles, *PROFILES]))
        raise BadInput("there is no profile {name}; there are: {names}", name=name, names=names)
    like = own.pop("like", name if name in PROFILES else None)
    keys = _names(name, own.pop("keys", []))
    if like is not None and like not in PROFILES:
        raise BadInput("profile {name} is like {like}, which is none of: {names}", name=name, like=str(like),
                       names=", ".join(PROFILES))  # fmt: skip
    ground: dict[str, Any] = msgspec.to_builtins(PROFILES[like]) if like is not None else {"title": name}
    for part in _PARTS:
        if is_dict(own.get(part)):
            own[part] = {**ground.get(part, {}), **own[part]}
    try:
        return Chosen(profile_from({**ground, "title": name, **own, "name": name}), keys)
    except BadInput as fault:
        raise BadInput("profile {name}: {fault}", name=name, fault=str(fault)) from None


def _names(profile: str, keys: object) -> list[str]:
    if not is_list(keys) or not all(isinstance(key, str) for key in keys):
        raise BadInput("profile {name}: keys is a list of names", name=profile)
    return [str(key) for key in keys]


def _write(config: Config) -> None:
    for name in config.profiles:
        _resolved(config, name)  # nothing is kept that cannot be used
    private_files.replace(
        paths.config(), msgspec.json.format(msgspec.json.encode(config), indent=2).decode() + "\n"
    )


@click.command(
    "config",
    help=_(
        "Show or change the profiles that `chat --profile` knows: without arguments all of them, with "
        "PROFILE what it says, with FIELD a field of it, with VALUE the field is set.\n\n"
        "Fields: like (a built-in profile to build on), base_url, model, keys (names of kept keys), "
        "environment (the variable that holds its key), key (false: it wants none), send_reasoning, and the "
        "options client.NAME and create.NAME. VALUE is JSON where it reads as such, else text:\n\n"
        "openai2 config work base_url https://llm.example.org/v1"
    ),
)
@click.argument("profile", required=False)
@click.argument("field", required=False)
@click.argument("value", required=False)
@click.option("--use", is_flag=True, help=_("Use PROFILE where none is named; without PROFILE, none."))
@click.option("--unset", is_flag=True, help=_("Take FIELD, or the whole PROFILE, out of the config."))
@json_option
def config(
    profile: str | None, field: str | None, value: str | None, use: bool, unset: bool, as_json: bool
) -> None:
    """Show or change the config."""
    if use or unset or value is not None:
        _change(profile, field, value, use=use, unset=unset)
    elif profile is None:
        _list(read(), as_json=as_json)
    else:
        _show(profile, field)


def _change(profile: str | None, field: str | None, value: str | None, *, use: bool, unset: bool) -> None:
    if (use + unset + (value is not None)) > 1 or (use and field) or (unset and profile is None):
        raise click.UsageError(_("say one thing at a time: set a field, --unset, or --use"))
    with private_files.locked(paths.config()):
        known = read()
        if use:
            if profile is not None:
                _resolved(known, profile)
            known.profile = profile
        elif unset:
            _unset(known, profile or "", field)
        else:
            held, last = _holder(known.profiles.setdefault(profile or "", {}), field or "")
            held[last] = parsed(value or "")
        _write(known)
    note(_("kept in {path}", path=str(paths.config())))


def _unset(config: Config, profile: str, field: str | None) -> None:
    own = config.profiles.get(profile)
    if own is None:
        raise BadInput("the config says nothing of a profile {name}", name=profile)
    if field is None:
        del config.profiles[profile]
        config.profile = None if config.profile == profile else config.profile
        return
    held, last = _holder(own, field)
    if last not in held:
        raise BadInput("profile {name} does not say {field}", name=profile, field=field)
    del held[last]


def _holder(own: dict[str, Any], field: str) -> tuple[dict[str, Any], str]:
    """Where a field such as create.temperature stands, and under which name."""
    part, dot, option = field.partition(".")
    if not dot:
        return own, field
    if part not in _PARTS or not option:
        raise BadInput("there is no field {field}: options are client.NAME and create.NAME", field=field)
    held: dict[str, Any] = own.setdefault(part, {})
    return held, option


def parsed(text: str) -> Any:
    """The JSON value that the text reads as, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


def _list(config: Config, *, as_json: bool) -> None:
    names = list(dict.fromkeys([*config.profiles, *PROFILES]))
    if as_json:
        out_json(config)
        return
    rows = [["  " + _("profile"), _("model"), _("server")]]
    for name in names:
        profile = _resolved(config, name).profile
        mark = "* " if name == config.profile else "  "
        rows.append([mark + name, profile.model or "", one_line(profile.base_url or "")])
    for place, line in enumerate(table(rows, 1_000_000)):
        out(line if place else paint(line, "dim"))
    note(_("the config is {path}", path=str(paths.config())))


def _show(profile: str, field: str | None) -> None:
    found = _resolved(read(), profile)
    told: dict[str, Any] = {**msgspec.to_builtins(found.profile), "keys": found.keys}
    if field is None:
        out_json(told)
        return
    held, last = _holder(told, field)
    if last not in held:
        raise BadInput("profile {name} does not say {field}", name=profile, field=field)
    out_json(held[last])


COMMANDS = {"config": config}
