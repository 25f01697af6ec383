"""Chat: a conversation with a model; every step is on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openai2.api import clients
from openai2.api import errors as api_errors
from openai2.api.options import RETRIES, RequestOptions
from openai2.base_chat import BaseChat
from openai2.core import messages as msg
from openai2.core.request_events import RequestSpec
from openai2.drivers import AsyncTextStream, TextStream
from openai2.keys.pool import AKPool
from openai2.request.effects import Answer
from openai2.tools import loop as tool_loop
from openai2.tools.loop import Parts

if TYPE_CHECKING:
    from openai.types import ImagesResponse


class Chat(BaseChat):
    """A conversation with a model.

    - *api_key*: a key, an `AKPool`, a function that returns a key, or None for `OPENAI_API_KEY`;
    - *model*: the default model of requests;
    - *MsgMaxCount* (or *msg_max_count*): the largest number of messages to send and keep in view; the oldest
      messages that are not pinned leave first;
    - *db*: the log, as a path, a URL, a store or an `Engine`; None keeps it in memory;
    - *conversation*: a name or full id in *db*, made if it does not exist;
    - *send_reasoning*: keep the model's reasoning (`reasoning_content`, `reasoning`) in its message and send
      it back; else only the answer's event keeps it;
    - *use_create*: call `chat.completions.create`, for tools that watch it (if it is patched, it is called
      anyway);
    - further options are those of `openai.OpenAI` and of `chat.completions.create`.

    *timeout* (seconds, or any type that the SDK takes) bounds a request with its retries and waits; for a
    stream, it bounds the time until the next piece of the answer. *max_retries* (2) is how often a server
    failure (no connection, 5xx) and, with a single key, a 429 are retried. A pool changes to its next key at
    once, whatever that number is.

    A failed request raises the `openai` exception and leaves the view as it was; the log keeps the question
    and the failure. Any number of threads and tasks may use one Chat.

    Raises TypeError for an unknown option, BadInput (a ValueError) for a key that cannot be sent or a limit
    below 1, StoreError for a store that cannot be used.
    """

    # -- requests

    def request(self, text: str | None = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """Ask, and return the answer's text, '' if the answer is a tool call.

        *text* and *parts* (see `Multimodal_Part`) make one user message; `messages=` appends further ones.
        Without any, the view is sent as it is, for example after a tool's result. *options* are those of
        `chat.completions.create`.

        Raises the `openai` exception of a failed request, BadInput for an empty prompt, NoRoom if pinned
        messages leave no room for the question.
        """
        return self._run(*self._ask(text, parts, options, stream=False)).text

    def stream_request(
        self, text: str | None = None, *parts: Mapping[str, Any], **options: Any
    ) -> Iterator[str]:
        """Ask, and yield the answer's text as it arrives. Arguments and errors as `request`.

        If the caller stops iterating, the text so far is stored as the answer, marked as stopped.
        `on_reasoning=` is a function that gets the model's reasoning as it arrives, piece by piece.
        """
        return TextStream(self._start(*self._ask(text, parts, options, stream=True)))

    async def async_request(self, text: str | None = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """`request`, awaited."""
        return (await self._arun(*self._ask(text, parts, options, stream=False))).text

    def async_stream_request(
        self, text: str | None = None, *parts: Mapping[str, Any], **options: Any
    ) -> AsyncIterator[str]:
        """`stream_request`, as an async iterator."""
        return AsyncTextStream(self._async_start(*self._ask(text, parts, options, stream=True)))

    asy_request = async_request

    # -- tools

    def run(
        self,
        text: str | None = None,
        *parts: Mapping[str, Any],
        tools: Sequence[Callable[..., Any]],
        max_rounds: int = 8,
        **options: Any,
    ) -> str:
        """Ask, run the functions that the model calls, send it the results, and repeat until it answers.

        *tools* are Python functions; their names, docstrings and type hints make the schemas. Calls of one
        answer run at the same time, in threads. The model gets the errors that tools raise, and they are on
        record. Without *text*, an unfinished conversation continues. The other arguments are those of
        `request`; a `tool_choice` that forces a call applies to the first round.

        Raises what `request` raises, BadInput for a function that cannot be a tool, Refused if the model
        still calls tools after *max_rounds* answers or the conversation was changed while tools ran.
        """

        def ask(text: str | None, parts: Parts, options: dict[str, Any]) -> Answer:
            return self._run(*self._ask(text, parts, options, stream=False))

        return tool_loop.ToolLoop(
            self.conversation, tools, max_rounds, (text, parts), options, self.MsgMaxCount
        ).run(ask)

    async def async_run(
        self,
        text: str | None = None,
        *parts: Mapping[str, Any],
        tools: Sequence[Callable[..., Any]],
        max_rounds: int = 8,
        **options: Any,
    ) -> str:
        """`run`, awaited; async tools are awaited, others run in threads."""

        async def ask(text: str | None, parts: Parts, options: dict[str, Any]) -> Answer:
            return await self._arun(*self._ask(text, parts, options, stream=False))

        loop = tool_loop.ToolLoop(
            self.conversation, tools, max_rounds, (text, parts), options, self.MsgMaxCount
        )
        return await loop.async_run(ask)

    # -- pictures

    def dalle(self, *args: Any, **options: Any) -> ImagesResponse:
        """Generate images: `images.generate` of the client, with this chat's key."""
        key = self._one_key()
        retries = self._options.client.get("max_retries", RETRIES)
        try:
            api = clients.client(key, self._options.client).with_options(max_retries=retries)
            pictures: ImagesResponse = api.images.generate(*args, **options)
        except Exception as error:  # noqa: BLE001 - any exception may hold the key
            failure = _cleaned(error, key)
        else:
            return pictures
        raise failure from failure.__cause__

    async def async_dalle(self, *args: Any, **options: Any) -> ImagesResponse:
        """`dalle`, awaited."""
        key = self._one_key()
        retries = self._options.client.get("max_retries", RETRIES)
        try:
            shared = await clients.acquire(key, self._options.client)
            try:
                api = shared.with_options(max_retries=retries)
                pictures: ImagesResponse = await api.images.generate(*args, **options)
            finally:
                clients.release(shared)
        except Exception as error:  # noqa: BLE001 - any exception may hold the key
            failure = _cleaned(error, key)
        else:
            return pictures
        raise failure from failure.__cause__

    # -- inside

    def _one_key(self) -> str | None:
        if self._keys is None:
            return None
        return self._keys.fetch_key() if isinstance(self._keys, AKPool) else self._keys.checkout()

    def _ask(
        self, text: str | None, parts: Iterable[Mapping[str, Any]], options: dict[str, Any], *, stream: bool
    ) -> tuple[RequestSpec, RequestOptions]:
        more = options.pop("messages", None) or ()  # the dict of one call's keyword arguments
        return self._request(msg.question(text, tuple(parts), more), options, stream=stream)


def _cleaned(error: Exception, key: str | None) -> BaseException:
    if api_errors.is_mistake(error):
        return error  # a mistake in the call; nothing was sent
    return api_errors.fault_of(error, [key] if key else []).error or error
