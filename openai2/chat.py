"""Chat: a dialogue with a model, every step of it on record.

A thin face on a `Conversation`: sync and async callers drive the same `flow`, each in a dozen lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from openai2 import decisions, drafts, provider
from openai2 import events as ev
from openai2 import messages as msg
from openai2.conversation import Conversation
from openai2.engine import Engine
from openai2.errors import NoKey
from openai2.flow import Close, Effect, Emit, Flow, Keys, OneKey, Open, Opened, Pause, Policy, Receive, Send
from openai2.flow import converse as _converse
from openai2.keys import AKPool, check_key
from openai2.messages import Message, Round
from openai2.store import Draft, Store, Transaction
from openai2.turn import Ask, Fault, Stopped

if TYPE_CHECKING:
    from types import TracebackType

    from openai.types import ImagesResponse
    from typing_extensions import Self

T = TypeVar("T")

DEFAULT_MODEL = "gpt-4o-mini"
#: What the openai package does where nothing else is said.
_RETRIES, _PATIENCE = 2, 600.0

_OTHER_CREDENTIALS = frozenset(("workload_identity", "provider", "admin_api_key"))

Key = str | AKPool | Callable[[], str] | None


class Chat:
    """A dialogue with a model.

    - *api_key*: a key, an `AKPool`, a function that gives one, or None for `OPENAI_API_KEY`;
    - *model*: the model asked, unless a request names another;
    - *MsgMaxCount* (or *msg_max_count*): at most so many messages are sent and kept in view; the earliest
      that are not pinned leave first;
    - *db*: where the log is kept, as a path, a URL, a store or an `Engine`; None keeps it in memory;
    - *conversation*: a name or full id in *db*, continued if it is there, made if it is not;
    - further options are those of `openai.OpenAI` and of `chat.completions.create`.

    A failed request raises the `openai` exception and leaves the view as it was; the log keeps the
    question and why it failed. A Chat may be used by any number of threads and tasks.

    Raises BadInput (a ValueError) for a key that cannot be sent or a limit below 1, StoreError for a
    store that cannot be used.
    """

    def __init__(
        self,
        api_key: Key = None,
        model: str | None = DEFAULT_MODEL,
        *,
        MsgMaxCount: int | None = None,
        msg_max_count: int | None = None,
        db: str | os.PathLike[str] | Store | Engine | None = None,
        conversation: str | Conversation | None = None,
        **options: Any,
    ) -> None:
        self._keys = _keys(api_key)
        self.model = model
        self.MsgMaxCount = decisions.check_limit(MsgMaxCount if msg_max_count is None else msg_max_count)
        self._client_options, self._create_options = provider.split(provider.given(options))
        self._owned = not isinstance(db, Engine)
        self.engine = db if isinstance(db, Engine) else Engine(db)
        self._finalizer = weakref.finalize(self, self.engine.close) if self._owned else None
        try:
            if isinstance(conversation, Conversation):
                self.conversation = conversation
            elif conversation is None:
                self.conversation = self.engine.new()
            else:
                self.conversation = self.engine.open_or_create(conversation)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {self.model}, conversation {self.conversation.id}>"

    # -- talking

    def request(self, text: str | None = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """Ask, and return the answer's text; '' where the answer is a tool call.

        *text* and *parts* (see `Multimodal_Part`) make one user message; `messages=` appends further
        ones; with none of them the view is sent as it stands, after a tool's result say. *options* are
        those of `chat.completions.create`.

        Raises the `openai` exception of a failed request, BadInput for an empty prompt, NoRoom where
        pinned messages leave no room for the question.
        """
        return self._run(self._ask(text, parts, options, stream=False), options)

    def stream_request(self, text: str | None = None, *parts: Mapping[str, Any], **options: Any) -> Iterator[str]:
        """Ask, and hand out the answer's text as it arrives. Arguments and errors as `request`.

        A caller that leaves early keeps what came: it is the answer of that round, marked as stopped.
        """
        return self._drive(self._ask(text, parts, options, stream=True), options)

    async def async_request(self, text: str | None = None, *parts: Mapping[str, Any], **options: Any) -> str:
        """`request`, awaited."""
        return await self._arun(self._ask(text, parts, options, stream=False), options)

    def async_stream_request(
        self, text: str | None = None, *parts: Mapping[str, Any], **options: Any
    ) -> AsyncIterator[str]:
        """`stream_request`, as an async iterator."""
        return self._adrive(self._ask(text, parts, options, stream=True), options, [])

    def retry(self, **options: Any) -> str:
        """Ask the last question again, and return the new answer's text.

        The old answer makes way once the new one is there; it stays in the history. After a request that
        failed, that one is asked again. Raises Refused where there is no question.
        """
        return self._run(self._ask_again(options, stream=False), options)

    def stream_retry(self, **options: Any) -> Iterator[str]:
        """`retry`, handing out the answer's text as it arrives."""
        return self._drive(self._ask_again(options, stream=True), options)

    async def async_retry(self, **options: Any) -> str:
        """`retry`, awaited."""
        return await self._arun(self._ask_again(options, stream=False), options)

    # -- the dialogue

    def fetch_messages(self) -> list[Message]:
        """The messages of the dialogue as it stands, each a dict of one's own."""
        return self.conversation.messages()

    def add_dialogs(self, *messages: Mapping[str, Any]) -> None:
        """Add messages, all or nothing. Raises NotAMessage (a ValueError) that names the first bad one."""
        self.conversation.add(messages)

    def rollback(self, n: int = 1) -> Round:
        """Take the last *n* rounds out; the round that is now last. Raises ValueError for n below 1."""
        return self.conversation.rollback(n)

    def pin_messages(self, *indexes: int) -> None:
        """Pin the messages at these indexes, so that MsgMaxCount leaves them alone. Raises IndexError."""
        self.conversation.pin(*indexes)

    def unpin_messages(self, *indexes: int) -> None:
        """Let MsgMaxCount take these messages again. Raises IndexError."""
        self.conversation.unpin(*indexes)

    def reset_api_key(self, api_key: Key) -> None:
        """From now on, use this key or pool."""
        self._keys = _keys(api_key)

    # -- the history

    @property
    def version(self) -> int:
        """The version of the conversation's last event; 0 before the first."""
        return self.conversation.version

    @property
    def head(self) -> str:
        """The hash of the conversation's last event, in hex; it commits to all that came before."""
        return self.conversation.head

    def at(self, version: int) -> list[Message]:
        """The messages exactly as they stood at *version*. Raises UnknownVersion."""
        return self.conversation.at(version)

    def events(self) -> Iterator[ev.Recorded]:
        """What happened, oldest first: the events of this conversation's own stream."""
        return self.conversation.events()

    def restore(self, version: int) -> None:
        """Make the dialogue again what it was at *version*; that, too, can be undone."""
        self.conversation.restore(version)

    def undo(self, n: int = 1) -> int:
        """Undo the last *n* actions (a round, a rollback, a pin, an import); how many were undone."""
        return self.conversation.undo(n)

    def redo(self, n: int = 1) -> int:
        """Take the last *n* undos back; how many were redone."""
        return self.conversation.redo(n)

    def fork(self, name: str | None = None, at: int | None = None) -> Chat:
        """A chat of its own that goes on from here, or from version *at*, with the same settings."""
        twin = self._with(self.conversation.fork(name, at))
        return twin

    def _with(self, conversation: Conversation) -> Chat:
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.conversation = conversation
        if self._owned:
            twin.engine = self.engine.share()
            twin._finalizer = weakref.finalize(twin, twin.engine.close)
        return twin

    def interrupted(self) -> list[Draft]:
        """Requests that a crash cut off: for `keep`, `drop`, or `retry` after a `drop`."""
        return self.conversation.interrupted()

    def keep(self, draft: Draft) -> None:
        """Let what had come of a cut answer join the dialogue, marked as stopped."""
        self.conversation.keep(draft)

    def drop(self, draft: Draft) -> None:
        """Leave a cut answer out; the log keeps it."""
        self.conversation.drop(draft)

    # -- the original's other names

    def dump(self, path: str | os.PathLike[str]) -> bool:
        """Write the messages to a JSON file; True."""
        text = json.dumps(self.fetch_messages(), ensure_ascii=False)
        Path(path).write_text(text, encoding="utf8")
        return True

    def load(self, path: str | os.PathLike[str]) -> bool:
        """Add the messages of a JSON file, as `dump` writes it; True."""
        self.add_dialogs(*json.loads(Path(path).read_text(encoding="utf8")))
        return True

    asy_request = async_request
    forge = add_dialogs
    pin = pin_messages
    unpin = unpin_messages

    def dalle(self, *args: Any, **options: Any) -> ImagesResponse:
        """Generate images: `images.generate` of the client, with this chat's key."""
        key = self._one_key()
        try:
            return provider.client(key, self._client_options).images.generate(*args, **options)
        except Exception as error:
            raise _cleaned(error, key) from error.__cause__

    async def async_dalle(self, *args: Any, **options: Any) -> ImagesResponse:
        """`dalle`, awaited."""
        key = self._one_key()
        try:
            client = await provider.async_client(key, self._client_options)
            return await client.images.generate(*args, **options)
        except Exception as error:
            raise _cleaned(error, key) from error.__cause__

    # -- the end

    def close(self) -> None:
        """Let go of the store. HTTP clients are shared, and stay."""
        if self._finalizer is not None:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """`close`, awaited."""
        await asyncio.to_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- inside

    def _one_key(self) -> str | None:
        if self._keys is None:
            return None
        return self._keys.fetch_key() if isinstance(self._keys, AKPool) else self._keys.checkout()

    def _ask(
        self, text: str | None, parts: Iterable[Mapping[str, Any]], options: dict[str, Any], *, stream: bool
    ) -> Ask:
        more = options.pop("messages", None) or ()
        return self._asking(msg.question(text, tuple(parts), more), options, stream=stream)

    def _ask_again(self, options: dict[str, Any], *, stream: bool) -> Ask:
        return self._asking([], options, stream=stream, retry=True)

    def _asking(self, question: list[bytes], options: dict[str, Any], *, stream: bool, **more: Any) -> Ask:
        """The Ask, and *options* completed by those of this chat."""
        if "stream" in options:
            raise TypeError("whether to stream is said by the method: request or stream_request")
        chosen = {**self._create_options, **provider.given(options)}
        _, create = provider.split(chosen, call=True)
        provider.check_create_options(create)
        model = create.pop("model", self.model)
        options.clear()
        options.update({**chosen, "model": model})
        return Ask(
            question=question,
            model=model,
            options=provider.on_record(create),
            stream=stream,
            limit=self.MsgMaxCount,
            **more,
        )

    def _prepare(self, options: dict[str, Any]) -> tuple[Keys, Policy, dict[str, Any], dict[str, Any]]:
        client, create = provider.split(options, call=True)
        create.pop("model", None)
        client = {**self._client_options, **client}
        keys = self._keys or _the_environments_key(client)
        retries = client.get("max_retries", _RETRIES)
        if isinstance(keys, AKPool):
            client["max_retries"] = 0  # the pool is the only one that tries again
        timeout = create.get("timeout", client.get("timeout"))
        policy = Policy(
            clock=time.monotonic,
            wall=time.time,
            random=random.random,
            retries=retries if isinstance(retries, int) else _RETRIES,
            patience=float(timeout) if isinstance(timeout, (int, float)) else _PATIENCE,
        )
        return keys, policy, client, create

    def _run(self, ask: Ask, options: dict[str, Any]) -> str:
        running = self._drive(ask, options)
        while True:
            try:
                next(running)
            except StopIteration as end:
                return str(end.value)

    def _drive(self, ask: Ask, options: dict[str, Any]) -> Generator[str, None, str]:
        keys, policy, client, create = self._prepare(options)
        flow = _converse(ask, keys, policy)
        exchange = provider.Exchange(client, create)
        try:
            effect = next(flow)
            while True:
                try:
                    result = None
                    if isinstance(effect, Receive):
                        result = exchange.receive()
                    elif isinstance(effect, Emit):
                        yield effect.text
                    elif isinstance(effect, Send):
                        exchange.send(effect)
                    elif isinstance(effect, Pause):
                        time.sleep(effect.seconds)
                    else:
                        self._record(effect)
                except Exception as error:
                    effect = flow.throw(error)
                except BaseException:
                    self._leave(flow)
                    raise
                else:
                    effect = flow.send(result)
        except StopIteration as end:
            return str(end.value)
        except Fault as fault:
            error = _caller_sees(fault, exchange)
            raise error from error.__cause__
        finally:
            exchange.close()

    def _record(self, effect: Open | Close) -> None:
        conversation, keeper = self.conversation, drafts.keeper(self.engine.store)
        if isinstance(effect, Open):
            conversation.begin(effect)
            self._watch(keeper, effect)
        else:
            keeper.forget(conversation.id, effect.request)
            conversation.end(effect.request, effect.decide)

    def _watch(self, keeper: drafts.Keeper, opening: Open) -> None:
        if opening.opened is not None:
            keeper.watch(self.conversation.id, opening.opened.begun.request, opening.partial)

    def _leave(self, flow: Flow) -> None:
        """The caller left: put on record what came, whatever else is going on."""
        try:
            effect: Effect = flow.throw(Stopped())
            while isinstance(effect, (Open, Close)):
                self._record(effect)
                effect = flow.send(None)
        except (Stopped, StopIteration):
            pass

    async def _arun(self, ask: Ask, options: dict[str, Any]) -> str:
        outcome: list[str] = []
        async for _ in self._adrive(ask, options, outcome):
            pass
        return outcome[0]

    async def _adrive(
        self, ask: Ask, options: dict[str, Any], outcome: list[str]
    ) -> AsyncGenerator[str, None]:
        keys, policy, client, create = self._prepare(options)
        flow = _converse(ask, keys, policy)
        exchange = provider.AsyncExchange(client, create)
        try:
            effect = next(flow)
            while True:
                try:
                    result = None
                    if isinstance(effect, Receive):
                        result = await exchange.receive()
                    elif isinstance(effect, Emit):
                        yield effect.text
                    elif isinstance(effect, Send):
                        await exchange.send(effect)
                    elif isinstance(effect, Pause):
                        await asyncio.sleep(effect.seconds)
                    else:
                        await self._arecord(effect)
                except Exception as error:
                    effect = flow.throw(error)
                except BaseException:
                    await self._aleave(flow)
                    raise
                else:
                    effect = flow.send(result)
        except StopIteration as end:
            outcome.append(str(end.value))
        except Fault as fault:
            error = _caller_sees(fault, exchange)
            raise error from error.__cause__
        finally:
            await exchange.close()

    async def _arecord(self, effect: Open | Close) -> None:
        conversation, keeper = self.conversation, drafts.keeper(self.engine.store)
        if isinstance(effect, Open):
            try:
                await _settled(self.engine.store, conversation.beginning(effect))
            finally:
                self._watch(keeper, effect)
        else:
            keeper.forget(conversation.id, effect.request)
            await _settled(self.engine.store, conversation.ending(effect.request, effect.decide))

    async def _aleave(self, flow: Flow) -> None:
        try:
            effect: Effect = flow.throw(Stopped())
            while isinstance(effect, (Open, Close)):
                await self._arecord(effect)
                effect = flow.send(None)
        except (Stopped, StopIteration):
            pass


async def _settled(store: Store, job: Callable[[Transaction], T]) -> T:
    """What *job* returns, run by the store. A cancellation waits for the disk, and is then raised."""
    loop = asyncio.get_running_loop()
    settled: asyncio.Future[Callable[[], T]] = loop.create_future()

    def tell(outcome: Callable[[], T]) -> None:
        loop.call_soon_threadsafe(settled.set_result, outcome)

    store.submit(job, tell)
    cancelled: asyncio.CancelledError | None = None
    while not settled.done():
        try:
            await asyncio.shield(settled)
        except asyncio.CancelledError as error:
            cancelled = error
    result = settled.result()()
    if cancelled is not None:
        raise cancelled
    return result


def _caller_sees(fault: Fault, exchange: provider.Exchange | provider.AsyncExchange) -> BaseException:
    """The exception for the caller."""
    dressed = provider.fault_of(fault, exchange.key, exchange.request)
    return dressed.error or dressed


def _cleaned(error: Exception, key: str | None) -> BaseException:
    return provider.fault_of(error, key).error or error


def _keys(api_key: Key) -> Keys | None:
    if api_key is None or isinstance(api_key, AKPool):
        return api_key
    if callable(api_key):
        return _AskedKey(api_key)
    return OneKey(check_key(api_key))


class _AskedKey(OneKey):
    """A key that a function gives, anew for each request."""

    __slots__ = ("_give",)

    def __init__(self, give: Callable[[], str]) -> None:
        self._give = give

    def checkout(self, tried: Any = ()) -> str | None:
        return None if tried else check_key(self._give())

    def __repr__(self) -> str:
        return "<key from a function>"


def _the_environments_key(client_options: Mapping[str, Any]) -> Keys:
    if not _OTHER_CREDENTIALS.isdisjoint(client_options):
        return OneKey("")  # the client has its own way in
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise NoKey(
            "no API key: pass api_key=…, or set OPENAI_API_KEY; openai2.offline answers without one"
        )
    return OneKey(check_key(key))


__all__ = ["Chat", "Opened"]
