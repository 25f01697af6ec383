"""Providers by name: what a program or the command needs to talk to each, as plain descriptions.

    Chat(key, profile("deepseek").model, **profile("deepseek").options())

Rules: no I/O, and nothing here is a secret. A profile says where a server is and what it wants besides a
key; docs/providers.md says which of them were tried, and against what.
"""

from __future__ import annotations

from typing import Any

import msgspec

from openai2.errors import BadInput


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One provider.

    - *name*: a word to choose it by; *title*: its name for people;
    - *base_url*: where it is; None where that differs from customer to customer, and `base_url` is wanted;
    - *model*: what is asked where nobody says; None where that is what its owner has installed;
    - *key*: whether it wants one; *environment*: where people keep it;
    - *client*: options of the client besides the base URL; *create*: options of each request;
    - *send_reasoning*: whether it wants what a model thought sent back.
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
        """The options for a Chat. Raises BadInput where the address is one's own and is not given."""
        address = base_url or self.base_url
        if address is None and self.name != "openai":
            raise BadInput("{title} has no address of its own: give base_url", title=self.title)
        options: dict[str, Any] = {**self.client, **self.create}
        if address is not None:
            options["base_url"] = address
        if self.send_reasoning:
            options["send_reasoning"] = True
        return options

    def key_or_placeholder(self, key: str | None) -> str | None:
        """*key*, or for a server that wants none the word that stands in its place: the SDK wants some."""
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
    """The profile of that name. Raises BadInput (a ValueError), which names those that there are."""
    known = PROFILES.get(name)
    if known is None:
        raise BadInput("there is no profile {name}; there are: {names}", name=name, names=", ".join(PROFILES))
    return known


_decode = msgspec.json.Decoder(Profile, strict=True).decode


def profile_from(settings: dict[str, Any]) -> Profile:
    """A profile from a config file's settings. Raises BadInput, which names the field that is wrong."""
    try:
        return _decode(msgspec.json.encode(settings))
    except (msgspec.DecodeError, TypeError) as fault:
        raise BadInput("this profile cannot be used: {fault}", fault=str(fault)) from fault
