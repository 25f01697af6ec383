"""Providers by name: the address, the default model and the options of each.

    Chat(key, profile("deepseek").model, **profile("deepseek").options())

Invariants: no I/O, no secrets. docs/providers.md says which of them were tried, and against what.
"""

from __future__ import annotations

from typing import Any

import msgspec

from openai2.errors import BadInput


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider.

    - *name*: the word that chooses it; *title*: its name for people;
    - *base_url*: its address; None if each customer has another, which `options` then needs;
    - *model*: the default model; None if it depends on what is installed;
    - *key*: True if it needs a key; *environment*: the variable that usually holds the key;
    - *client*: options of the client besides the base URL; *create*: options of each request;
    - *send_reasoning*: True if it expects the model's reasoning to be sent back.
    """

    name: str
    title: str
    base_url: str | None = None
    model: str | None = None
    key: bool = True
    environment: str | None = None
    client: dict[str, Any] = {}
    create: dict[str, Any] = {}
    send_reasoning: bool = False

    def options(self, base_url: str | None = None) -> dict[str, Any]:
        """Return the options for a Chat. Raises BadInput if the profile has no address and none is passed."""
        address = base_url or self.base_url
        if address is None and self.name != "openai":
            raise BadInput("{title} has no default address: pass base_url", title=self.title)
        options: dict[str, Any] = {**self.client, **self.create}
        if address is not None:
            options["base_url"] = address
        if self.send_reasoning:
            options["send_reasoning"] = True
        return options

    def key_or_placeholder(self, key: str | None) -> str | None:
        """Return *key*, or a placeholder for servers that need none, since the SDK requires a key."""
        return key or (None if self.key else "none")


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        # No address: the SDK's own, or OPENAI_BASE_URL.
        Profile(name="openai", title="OpenAI", model="gpt-4o-mini", environment="OPENAI_API_KEY"),
        # https://RESOURCE.openai.azure.com/openai/v1/; the model is the name of the deployment.
        Profile(name="azure", title="Azure OpenAI", environment="AZURE_OPENAI_API_KEY"),
        Profile(name="ollama", title="Ollama", base_url="http://127.0.0.1:11434/v1/", key=False),
        Profile(name="llamacpp", title="llama.cpp", base_url="http://127.0.0.1:8080/v1/", key=False),
        Profile(name="vllm", title="vLLM", base_url="http://127.0.0.1:8000/v1/", key=False),
        Profile(
            name="deepseek",
            title="DeepSeek",
            base_url="https://api.deepseek.com/v1/",
            model="deepseek-chat",
            environment="DEEPSEEK_API_KEY",
        ),
        Profile(
            name="qwen",
            title="Qwen (Alibaba Cloud Model Studio)",
            base_url="https://dashscope.aliyuncs.com/compatible-mode/v1/",
            model="qwen-plus",
            environment="DASHSCOPE_API_KEY",
        ),
        Profile(
            name="openrouter",
            title="OpenRouter",
            base_url="https://openrouter.ai/api/v1/",
            model="openai/gpt-4o-mini",
            environment="OPENROUTER_API_KEY",
        ),
    )
}


def profile(name: str) -> Profile:
    """Return the profile of that name. Raises BadInput (a ValueError), which lists the names."""
    known = PROFILES.get(name)
    if known is None:
        raise BadInput("there is no profile {name}: use one of {names}", name=name, names=", ".join(PROFILES))
    return known


_decode = msgspec.json.Decoder(Profile, strict=True).decode


def profile_from(settings: dict[str, Any]) -> Profile:
    """Return a profile from a config file's settings. Raises BadInput, which names the wrong field."""
    try:
        return _decode(msgspec.json.encode(settings))
    except (msgspec.DecodeError, TypeError) as fault:
        raise BadInput("invalid profile: {fault}", fault=str(fault)) from fault
