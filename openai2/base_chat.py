"""Dialogue: what every face on a conversation has, whatever is said in it and by whom.

Settings, the history and its undoing, and the way from a question to a running request; `Chat` and
`GroupChat` add how a question is put.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import weakref
from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from openai2 import drivers
from openai2.api.exchange import AsyncExchange, Exchange
from openai2.api.options import ChatOptions, RequestOptions
from openai2.conversation import Conversation
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core.messages import Message, Round
from openai2.core.request_events import RequestSpec
from openai2.engine import Engine
from openai2.errors import NoKey
from openai2.keys.pool import check_key
from openai2.keys.source import ApiKey, KeySource, SingleKey, key_source
from openai2.request.effects import Flow, Policy
from openai2.request.flow import converse
from openai2.store import Draft, Store

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

DEFAULT_MODEL = "gpt-4o-mini"
_OTHER_CREDENTIALS = frozenset(("workload_identity", "provider", "admin_api_key"))


class BaseChat:
    """The base of `Chat` and `GroupChat`; see there for the arguments."""

    def __init__(
        self,
        api_key: ApiKey = None,
        model: str | None = DEFAULT_MODEL,
        *,
        MsgMaxCount: int | None = None,
        msg_max_count: int | None = None,
        db: str | os.PathLike[str] | Store | Engine | None = None,
        conversation: str | Conversation | None = None,
        send_reasoning: bool = False,
        use_create: bool = False,
        **options: Any,
    ) -> None:
        self._keys = key_source(api_key)
        self.send_reasoning = send_reasoning
        self.use_create = use_create
        self.model = model
        self.MsgMaxCount = decisions.check_limit(MsgMaxCount if msg_max_count is None else msg_max_count)
        self._options = ChatOptions.parse(options)
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

    def reset_api_key(self, api_key: ApiKey) -> None:
        """From now on, use this key or pool."""
        self._keys = key_source(api_key)

    # -- the history

    @property
    def version(self) -> int:
        """The version of the conversation's last event; 0 before the first."""
        return self.conversation.version

    @property
    def head(self) -> str:
        """The hash of the conversation's last event, in hex; it commits to all that came before."""
        return self.conversation.head

    def at(self, version: int | str | datetime) -> list[Message]:
        """The messages exactly as they stood at *version*, or at a time, as in `at("2026-11-22T10:05")`.

        Raises UnknownVersion, BadInput for a time that is none.
        """
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

    def fork(self, name: str | None = None, at: int | None = None) -> Self:
        """A dialogue of its own that goes on from here, or from version *at*, with the same settings."""
        return self._with(self.conversation.fork(name, at))

    def _with(self, conversation: Conversation) -> Self:
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

    # -- asking

    def _asking(
        self, question: list[bytes], options: Mapping[str, Any], *, stream: bool, **more: Any
    ) -> tuple[RequestSpec, RequestOptions]:
        """Return what is asked, and the options of this request: those of the call over those of the chat."""
        merged = RequestOptions.merge(self._options, options, model=self.model, stream=stream)
        spec = RequestSpec(
            question=question,
            model=merged.model,
            options=merged.recorded,
            stream=stream,
            limit=decisions.check_limit(self.MsgMaxCount),
            send_reasoning=self.send_reasoning,
            **more,
        )
        return spec, merged

    def _flow(self, spec: RequestSpec, options: RequestOptions, said: list[bytes] | None) -> Flow:
        policy = Policy(
            clock=time.monotonic,
            wall=time.time,
            random=random.random,
            retries=options.retries,
            patience=options.timeout,
            secrets=options.secrets,
        )
        return converse(spec, self._keys or _the_environments_key(options.client), policy, said)

    def _run(self, spec: RequestSpec, options: RequestOptions, said: list[bytes] | None = None) -> str:
        running = self._drive(spec, options, said)
        while True:
            try:
                next(running)
            except StopIteration as end:
                return str(end.value)

    def _drive(
        self, spec: RequestSpec, options: RequestOptions, said: list[bytes] | None = None
    ) -> Generator[str, None, str]:
        flow = self._flow(spec, options, said)
        exchange = Exchange(options, through_create=self.use_create)
        return drivers.drive(flow, self.conversation, exchange, options.on_reasoning)

    async def _arun(self, spec: RequestSpec, options: RequestOptions, said: list[bytes] | None = None) -> str:
        outcome: list[str] = []
        async for _ in self._adrive(spec, options, outcome, said):
            pass
        return outcome[0]

    def _adrive(
        self,
        spec: RequestSpec,
        options: RequestOptions,
        outcome: list[str] | None = None,
        said: list[bytes] | None = None,
    ) -> AsyncGenerator[str, None]:
        flow = self._flow(spec, options, said)
        exchange = AsyncExchange(options, through_create=self.use_create)
        outcome = [] if outcome is None else outcome
        return drivers.adrive(flow, self.conversation, exchange, outcome, options.on_reasoning)


def _the_environments_key(client_options: Mapping[str, Any]) -> KeySource:
    if not _OTHER_CREDENTIALS.isdisjoint(client_options):
        return SingleKey("")  # the client has its own way in
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise NoKey("no API key: pass api_key=…, or set OPENAI_API_KEY; openai2.offline answers without one")
    return SingleKey(check_key(key))
