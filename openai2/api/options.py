"""The options of a request, checked and split once: for the client, for `create` and for the log.

Invariants:
- `RequestOptions` does not change once it is made. Every part of a request reads the same one.
- An option that says how a request travels does not go on record: it could carry a secret.
- The package `openai`, which takes a second to import, is imported only to check a rare option's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import msgspec

from openai2.api import addresses
from openai2.api import errors as api_errors
from openai2.core import decisions
from openai2.core.typeguards import is_int, is_mapping
from openai2.errors import BadInput

#: Options of openai.OpenAI; every other option of a Chat belongs to chat.completions.create.
CLIENT_OPTIONS = frozenset(
    (
        *("base_url", "organization", "project", "webhook_secret", "websocket_base_url", "timeout"),
        *("max_retries", "default_headers", "default_query", "http_client", "admin_api_key"),
        *("workload_identity", "provider", "data_residency", "_strict_response_validation"),
        "_enforce_credentials",
    )
)
#: Options of `create` that say how a request travels, not what is asked.
TRAVEL_OPTIONS = frozenset(("extra_headers", "extra_query", "extra_body", "timeout"))
#: Common options of `create`. A name that is missing here costs an import of `openai`, nothing else.
_COMMON = TRAVEL_OPTIONS | {
    *("temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stop", "seed", "user"),
    *("presence_penalty", "frequency_penalty", "response_format", "reasoning_effort", "verbosity"),
    *("tools", "tool_choice", "parallel_tool_calls", "logprobs", "top_logprobs", "logit_bias"),
    *("model", "stream_options"),
}
#: Options of `create` that this package sets, and how a caller says the same.
_RESERVED = {
    "stream": "whether to stream is said by the method: request or stream_request",
    "messages": "messages are added by add_dialogs, or handed to a request of a Chat",
}
#: Defaults of the openai package: attempts after the first, and seconds.
RETRIES, TIMEOUT = 2, 600.0

Options = dict[str, Any]
#: Receives the model's reasoning, piece by piece.
OnReasoning = Callable[[str], object]


class ChatOptions(NamedTuple):
    """The options that a chat was made with: those of the client, and those of `create`."""

    client: Options
    create: Options

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> ChatOptions:
        """Split and check *options*. Raises TypeError for an unknown option."""
        split = split_options(drop_not_given(options))
        check_create_options(split.create)
        return split

    def travel_only(self) -> ChatOptions:
        """Return these options without those of `create` that say what is asked."""
        travel = TRAVEL_OPTIONS - {"extra_body"}
        return self._replace(create={name: self.create[name] for name in travel & self.create.keys()})


class RequestOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one request.

    *client* are those of openai.OpenAI, less `max_retries`. *create* are the arguments of `create`, less
    `messages`. *recorded* go on record. *timeout* (seconds) and *retries* bound the request. *secrets* are
    sent with the request in headers or options, besides the API key.
    """

    model: str | None
    stream: bool
    client: Options
    create: Options
    recorded: Options
    retries: int
    timeout: float | None
    secrets: tuple[str, ...]
    on_reasoning: OnReasoning | None

    def __repr__(self) -> str:  # the options can hold secrets
        return f"<{type(self).__name__} for {self.model}>"

    @classmethod
    def merge(
        cls, chat: ChatOptions, call: Mapping[str, Any], *, model: str | None, stream: bool
    ) -> RequestOptions:
        """Merge the options of a call over those of its chat. *model* is the chat's.

        Raises TypeError for an unknown option, BadInput for a value that cannot be sent.
        """
        given = drop_not_given(call)
        on_reasoning = given.pop("on_reasoning", None)
        if on_reasoning is not None and not callable(on_reasoning):
            raise TypeError(f"on_reasoning: expected a function of one str, got {on_reasoning!r}")
        own = split_options(given, call=True)
        client, create = {**chat.client, **own.client}, {**chat.create, **own.create}
        check_create_options(create)
        model = decisions.check_text(create.pop("model", model), "the model")
        recorded = recordable(create)
        retries = client.pop("max_retries", RETRIES)
        timeout = create.get("timeout", client.get("timeout", TIMEOUT))
        if model is not None:
            create["model"] = model
        if stream:
            create["stream"] = True
            if create.setdefault("stream_options", {"include_usage": True}) is None:
                del create["stream_options"]
        return cls(
            model=model,
            stream=stream,
            client=client,
            create=create,
            recorded=recorded,
            retries=retries if is_int(retries, 0) else RETRIES,
            timeout=_seconds(timeout),
            secrets=tuple(api_errors.secrets_in(client, create)),
            on_reasoning=on_reasoning,
        )

    def body(self, messages: Sequence[bytes]) -> bytes:
        """Return the request's JSON: *messages* as they are in the log, and the options."""
        fields = {name: value for name, value in self.create.items() if name not in TRAVEL_OPTIONS}
        fields.update(self.create.get("extra_body") or {})
        if "messages" in fields:
            return _encode(fields)
        return b'{"messages":[' + b",".join(messages) + (b"]," if fields else b"]") + _encode(fields)[1:]


def split_options(options: Mapping[str, Any], *, call: bool = False) -> ChatOptions:
    """Split *options* into those of the client and those of `create`. `api_base` means `base_url`.

    A timeout is the request's if the options are those of a *call*, else the client's.
    """
    split = ChatOptions({}, {})
    for name, value in options.items():
        if name in ("base_url", "api_base"):
            if value is not None:
                addresses.parse(str(value))
            split.client["base_url"] = value
        elif name in CLIENT_OPTIONS and not (call and name == "timeout"):
            split.client[name] = value
        else:
            split.create[name] = value
    return split


def drop_not_given(options: Mapping[str, Any]) -> Options:
    """Return the options without the SDK's markers for "not given"."""
    return {
        name: value for name, value in options.items() if type(value).__name__ not in ("NotGiven", "Omit")
    }


@cache
def _create_names() -> frozenset[str]:
    import inspect

    from openai.resources.chat.completions import Completions

    return frozenset(inspect.signature(Completions.create).parameters) - {"self"}


def check_create_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that `create` does not know, or that a caller may not set."""
    for name in options:
        if name in _RESERVED:
            raise TypeError(_RESERVED[name])
        if name not in _COMMON and name not in _create_names():
            raise TypeError(
                f"{name!r} is not an option of chat.completions.create; "
                f"pass an option that only the server knows as extra_body={{{name!r}: …}}"
            )


def recordable(options: Mapping[str, Any]) -> Options:
    """Return the options as an event keeps them: plain JSON, and only those that carry no secret."""
    kept = {name: value for name, value in options.items() if name not in TRAVEL_OPTIONS}
    extra = options.get("extra_body")
    if is_mapping(extra):
        kept["extra_body"] = dict(extra)
    plain: Options = msgspec.json.decode(_encode(kept))
    return plain


def _seconds(timeout: Any) -> float | None:
    """Return the seconds of a timeout of any type that the SDK takes; None means no limit."""
    seconds = getattr(timeout, "read", timeout)
    return float(seconds) if isinstance(seconds, (int, float)) else None


def _to_json(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    if is_mapping(value):
        return dict(value)
    if hasattr(value, "__iter__"):
        return [*value]
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


_encoder = msgspec.json.Encoder(enc_hook=_to_json)


def _encode(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise BadInput("an option holds a lone surrogate, which no UTF-8 text can hold") from None
