"""Chat: a dialogue with a model, every step of it on record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from openai2.api import clients
from openai2.api import errors as api_errors
from openai2.api.options import RETRIES, RequestOptions
from openai2.base_chat import BaseChat
from openai2.core import messages as msg
from openai2.core.request_events import RequestSpec
from openai2.drivers import TextStream
from openai2.keys.pool import AKPool
from openai2.request.effects import Answer
from openai2.tools import loop as tool_loop
from openai2.tools.loop import Parts

if TYPE_CHECKING:
    from openai.types import ImagesResponse


class Chat(BaseChat):
    """A dialogue with a model.

    - *api_key*: a key, an `AKPool`, a function that gives one, or None for `OPENAI_API_KEY`;
    - *model*: the model asked, unless a request names another;
    - *MsgMaxCount* (or *msg_max_count*): at most so many messages are sent and kept in view; the earliest
      that are not pinned leave first;
    - *db*: where the log is kept, as a path, a URL, a store or an `Engine`; None keeps it in memory;
    - *conversation*: a name or full id in *db*, continued if it is there, made if it is not;
    - *send_reasoning*: what a model thought (`reasoning_content`, `reasoning`) stays in its message and is
      sent back with it; else it is kept in the answer's event only;
    - *use_create*: call `chat.completions.create` itself, for tools that watch it (where it was patched, it
      is called anyway);
    - further options are those of `openai.OpenAI` and of `chat.completions.create`; for any other,
      TypeError is raised.

    *timeout* bounds a whole request, its retries and waits included; of a stream, the time until the next
    piece of the answer. *max_retries* (2) says how often a fault of the server (no connection, 5xx) and,
    with a single key, a 429 are tried again. A pool turns to its next key at once, whatever that number.

    A failed request raises the `openai` exception and leaves the view as it was; the log keeps the
    question and why it failed. A Chat may be used by any number of threads and tasks.

    Raises BadInput (a ValueError) for a key that cannot be sent or a limit below 1, StoreError for a
    store that cannot be used.
    """

    # -- talking

    def request(self, text: str | None = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """Ask, and return the answer's text; '' where the answer is a tool call.

        *text* and *parts* (see `Multimodal_Part`) make one user message; `messages=` appends further
        ones; with none of them the view is sent as it stands, after a tool's result say. *options* are
        those of `chat.completions.create`.

        Raises the `openai` exception of a failed request, BadInput for an empty prompt, NoRoom where
        pinned messages leave no room for the question.
        """
        return self._run(*self._ask(text, parts, options, stream=False)).text

    def stream_request(
        self, text: str | None = None, *parts: Mapping[str, Any], **options: Any
    ) -> Iterator[str]:
        """Ask, and hand out the answer's text as it arrives. Arguments and errors as `request`.

        A caller that leaves early keeps what came: it is the answer of that round, marked as stopped.
        *on_reasoning*, a function, is told what the model thinks, piece by piece as it comes.
        """
        return self._drive(*self._ask(text, parts, options, stream=True))

    async def async_request(self, text: str | None = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """`request`, awaited."""
        return (await self._arun(*self._ask(text, parts, options, stream=False))).text

    def async_stream_request(
        self, text: str | None = None, *parts: Mapping[str, Any], **options: Any
    ) -> AsyncIterator[str]:
        """`stream_request`, as an async iterator."""
        return TextStream(self._adrive(*self._ask(text, parts, options, stream=True)))

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
        """Ask, run the functions that the model calls, tell it what came, and so on until it answers.

        *tools* are Python functions; a model is told what their names, docstrings and type hints say.
        Calls of one answer run at the same time, in threads. An error that a tool raises is told to the
        model and is on record. Without *text*, a dialogue that was left in the middle goes on. The other
        arguments are those of `request`; a `tool_choice` that forces a call holds for the first round.

        Raises what `request` raises, BadInput for what cannot be a tool, Refused where the model still
        calls tools after *max_rounds* answers, or where others went on with the conversation meanwhile.
        """

        def ask(text: str | None, parts: Parts, options: dict[str, Any]) -> Answer:
            return self._run(*self._ask(text, parts, options, stream=False))

        return tool_loop.ToolLoop(self.conversation, tools, max_rounds, (text, parts), options).run(ask)

    async def async_run(
        self,
        text: str | None = None,
        *parts: Mapping[str, Any],
        tools: Sequence[Callable[..., Any]],
        max_rounds: int = 8,
        **options: Any,
    ) -> str:
        """`run`, awaited; tools may be async functions, others run in threads."""

        async def ask(text: str | None, parts: Parts, options: dict[str, Any]) -> Answer:
            return await self._arun(*self._ask(text, parts, options, stream=False))

        loop = tool_loop.ToolLoop(self.conversation, tools, max_rounds, (text, parts), options)
        return await loop.async_run(ask)

    # -- pictures

    def dalle(self, *args: Any, **options: Any) -> ImagesResponse:
        """Generate images: `images.generate` of the client, with this chat's key."""
        key = self._one_key()
        retries = self._options.client.get("max_retries", RETRIES)
        try:
            api = clients.client(key, self._options.client).with_options(max_retries=retries)
            pictures: ImagesResponse = api.images.generate(*args, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, no key is to travel in it
            failure = _cleaned(error, key)
        else:
            return pictures
        raise failure from failure.__cause__

    async def async_dalle(self, *args: Any, **options: Any) -> ImagesResponse:
        """`dalle`, awaited."""
        key = self._one_key()
        retries = self._options.client.get("max_retries", RETRIES)
        try:
            shared = await clients.async_client(key, self._options.client)
            api = shared.with_options(max_retries=retries)
            pictures: ImagesResponse = await api.images.generate(*args, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, no key is to travel in it
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
        more = options.pop("messages", None) or ()  # *options* are the keyword arguments of this call alone
        return self._request(msg.question(text, tuple(parts), more), options, stream=stream)


def _cleaned(error: Exception, key: str | None) -> BaseException:
    if not isinstance(error, api_errors.expected()):
        return error  # a mistake in the call, which was not sent
    return api_errors.fault_of(error, [key] if key else []).error or error
