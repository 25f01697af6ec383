"""The config file: the user's profiles of servers, and which one is the default.

    {"profile": "work",
     "profiles": {"work": {"like": "azure", "base_url": "https://…", "model": "…", "keys": ["work"],
                           "create": {"temperature": 0.2}}}}

Invariants:
- A user's profile extends the built-in profile that its `like` or its own name refers to; its own fields win.
- An unknown field raises an error that names it.
- The file contains no key: `keys` lists names of keys in the key file.
- Only a config whose profiles can all be used is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from openai2.cli.settings import paths, private_files
from openai2.core.typeguards import is_dict, is_list
from openai2.errors import BadInput
from openai2.profiles import PROFILES, Profile, profile_from

_OPTION_FIELDS = ("client", "create")


class Config(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The content of the file: the default profile, and the user's profiles by name."""

    profile: str | None = None
    profiles: dict[str, dict[str, Any]] = {}

    def names(self) -> list[str]:
        """Return the names of all profiles, the user's first."""
        return list(dict.fromkeys([*self.profiles, *PROFILES]))


class ChosenProfile(msgspec.Struct, frozen=True):
    """A profile, and the names of the stored keys that it uses."""

    profile: Profile
    keys: list[str]


_decode = msgspec.json.Decoder(Config, strict=True).decode


def read() -> Config:
    """Return the config; an empty one if there is no file.

    Raises:
        BadInput: the file is not valid; the error names the field.
    """
    path = paths.config()
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return Config()
    try:
        return _decode(raw)
    except (msgspec.DecodeError, UnicodeError) as fault:
        raise BadInput("invalid config file {path}: {reason}", path=str(path), reason=str(fault)) from None


def change(edit: Callable[[Config], None]) -> None:
    """Apply *edit* to the config and write it, locked against other processes. Raises BadInput."""
    with private_files.locked(paths.config()):
        config = read()
        edit(config)
        for name in config.profiles:
            resolve(config, name)
        private_files.replace(
            paths.config(), msgspec.json.format(msgspec.json.encode(config), indent=2).decode() + "\n"
        )


def choose_profile(name: str | None) -> ChosenProfile | None:
    """Return the profile *name*, by default the config's default, if it has one. Raises BadInput."""
    config = read()
    name = name or config.profile
    return None if name is None else resolve(config, name)


def resolve(config: Config, name: str) -> ChosenProfile:
    """Return the profile *name*, merged with the built-in one that it extends. Raises BadInput."""
    if name not in config.profiles and name not in PROFILES:
        raise BadInput(
            "there is no profile {name}: use one of {names}", name=name, names=", ".join(config.names())
        )
    fields = dict(config.profiles.get(name, {}))
    base_name = fields.pop("like", name if name in PROFILES else None)
    keys = fields.pop("keys", [])
    if not is_list(keys) or not all(isinstance(key, str) for key in keys):
        raise BadInput("profile {name}: keys must be a list of names", name=name)
    if base_name is not None and base_name not in PROFILES:
        raise BadInput(
            "profile {name}: like is {like}, expected one of: {names}",
            name=name,
            like=str(base_name),
            names=", ".join(PROFILES),
        )
    base: dict[str, Any] = {} if base_name is None else msgspec.to_builtins(PROFILES[base_name])
    for field in _OPTION_FIELDS:
        if is_dict(fields.get(field)):
            fields[field] = {**base.get(field, {}), **fields[field]}
    try:
        profile = profile_from({**base, "title": name, **fields, "name": name})
    except BadInput as fault:
        raise BadInput("profile {name}: {fault}", name=name, fault=str(fault)) from None
    return ChosenProfile(profile, [str(key) for key in keys])


def locate_field(profile: dict[str, Any], field: str) -> tuple[dict[str, Any], str]:
    """Return the dict that holds *field* of a profile, such as `create.temperature`, and its key there."""
    part, dot, option = field.partition(".")
    if not dot:
        return profile, field
    if part not in _OPTION_FIELDS or not option:
        raise BadInput("there is no field {field}: options are client.NAME and create.NAME", field=field)
    options: dict[str, Any] = profile.setdefault(part, {})
    return options, option
