"""The fields of an answer that only some servers know: kept on record, sent to servers that want them.

Invariants: no I/O. What is recorded does not change; only what is sent does. A field that is not in the table
is sent as it is, since a caller may have added it for its server.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from openai2.core.typeguards import is_dict, is_list

_GEMINI = ("generativelanguage.googleapis.com", "aiplatform.googleapis.com")
_OPENROUTER = ("openrouter.ai",)


class Rule(NamedTuple):
    """Who wants a field back: the servers at *hosts*; *others*: also each one that is not in `PROVIDERS`."""

    hosts: tuple[str, ...] = ()
    others: bool = False


#: The hosts, and their subdomains, of providers whose API is known to refuse or ignore fields of others.
PROVIDERS = (
    *("api.openai.com", "azure.com", "api.anthropic.com", "api.mistral.ai", "api.groq.com", "api.x.ai"),
    *("api.deepseek.com", "aliyuncs.com", "api.moonshot.cn", "api.moonshot.ai", "bigmodel.cn", "volces.com"),
    *("api.together.xyz", "api.fireworks.ai", "api.cerebras.ai", "api.perplexity.ai", "api.cohere.com"),
    *_GEMINI,
    *_OPENROUTER,
)

#: The table: fields of an assistant's message, of its tool calls, and of their functions.
SERVER_FIELDS: dict[str, Rule] = {
    # State that a provider wants back unchanged, or the model loses its thoughts between tool calls.
    "reasoning_details": Rule(_OPENROUTER, others=True),
    "extra_content": Rule(_GEMINI, others=True),
    "thought_signature": Rule(_GEMINI, others=True),
    "thought_signatures": Rule(_GEMINI, others=True),
    "thinking_blocks": Rule(others=True),  # Anthropic's models behind LiteLLM
    # What OpenRouter takes back, to parse a file once, and others refuse.
    "annotations": Rule(_OPENROUTER),
    # What is only said in an answer.
    **dict.fromkeys(
        (
            *("provider_specific_fields", "citations", "search_results", "grounding_metadata"),
            *("context", "content_filter_results", "parsed", "parsed_arguments", "stop_reason"),
            *("matched_stop", "token_ids", "mm_content", "executed_tools", "web_search"),
        ),
        Rule(),
    ),
}

#: The fields without which an answer is still one, and which alone are none.
METADATA = frozenset(SERVER_FIELDS)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _is_at(host: str, domains: Sequence[str]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


@lru_cache(64)
def _unwanted(host: str) -> dict[str, bytes]:
    """Return the fields that *host* does not want, and how each begins in JSON."""
    is_named = _is_at(host, PROVIDERS)
    return {
        name: _encode(name)
        for name, rule in SERVER_FIELDS.items()
        if not _is_at(host, rule.hosts) and not (rule.others and not is_named)
    }


def for_server(messages: Sequence[bytes], host: str) -> list[bytes]:
    """Return the encoded *messages* as they are sent to *host*."""
    unwanted = _unwanted(host)
    everything = b"".join(messages)
    found = {name: quoted for name, quoted in unwanted.items() if quoted in everything}
    if not found:
        return [*messages]
    return [
        _without(raw, found) if any(quoted in raw for quoted in found.values()) else raw for raw in messages
    ]


def _without(raw: bytes, names: dict[str, bytes]) -> bytes:
    message = _decode(raw)
    if not is_dict(message) or message.get("role") != "assistant":
        return raw
    holders: list[Any] = [message]
    calls = message.get("tool_calls")
    for call in calls if is_list(calls) else []:
        holders += [call, call.get("function")] if is_dict(call) else []
    is_changed = False
    for holder in holders:
        for name in names.keys() & holder.keys() if is_dict(holder) else ():
            del holder[name]
            is_changed = True
    return _encode(message) if is_changed else raw
