"""What `Chat` and `GroupChat` share: settings, history, undo, replays, and how a request is run.

`Chat` and `GroupChat` add how a question is put.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from openai2.api.exchange import AsyncExchange, Exchange
from openai2.api.options import (
    ChatOptions,
    RequestOptions,
    check_create_options,
    drop_not_given,
    recordable,
    split_options,
)
from openai2.archive.atomic_file import refuse_database
from openai2.conversation import Conversation
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core.messages import Message, Round
from openai2.core.request_events import RequestSpec
from openai2.drivers import AsyncRequest, AsyncTextStream, Request, RequestLog, TextStream
from openai2.engine import Engine
from openai2.errors import NoKey
from openai2.keys.pool import check_key
from openai2.keys.source import ApiKey, KeySource, SingleKey, key_source
from openai2.request.attempts import AttemptPolicy
from openai2.request.effects import Answer, Flow
from openai2.request.flow import converse
from openai2.store import Draft, Store

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from openai2.replay.run import Progress, Replayed, ReplayOptions

DEFAULT_MODEL = "gpt-4o-mini"
_OTHER_CREDENTIALS = frozenset(("workload_identity", "provider", "admin_api_key"))


class BaseChat:
    """The base of `Chat` and `GroupChat`. `Chat` documents the arguments."""

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
        self._owner = object()  # copies are the same owner of requests, forks are not
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

    # -- the view

    def fetch_messages(self) -> list[Message]:
        """Return the messages of the view, each a new dict."""
        return self.conversation.messages()

    def add_dialogs(self, *messages: Mapping[str, Any]) -> None:
        """Add messages, all or nothing; MsgMaxCount then removes the earliest ones that are not pinned.

        Raises NotAMessage (a ValueError) that names the first bad one, NoRoom if pinned messages leave no
        room.
        """
        self.conversation.add(messages, self.MsgMaxCount)

    def rollback(self, n: int = 1) -> Round:
        """Take the last *n* rounds out, and return the round that is now last.

        Raises ValueError for n below 1.
        """
        return self.conversation.rollback(n)

    def pin_messages(self, *indexes: int) -> None:
        """Pin the messages at these indexes: MsgMaxCount does not remove them. Raises IndexError."""
        self.conversation.pin(*indexes)

    def unpin_messages(self, *indexes: int) -> None:
        """Unpin the messages at these indexes. Raises IndexError."""
        self.conversation.unpin(*indexes)

    forge = add_dialogs
    pin = pin_messages
    unpin = unpin_messages

    def dump(self, path: str | os.PathLike[str]) -> bool:
        """Write the messages to a JSON file, and return True. Raises BadInput if it is a database."""
        refuse_database(path)
        text = json.dumps(self.fetch_messages(), ensure_ascii=False)
        Path(path).write_text(text, encoding="utf8")
        return True

    def load(self, path: str | os.PathLike[str]) -> bool:
        """Add the messages of a JSON file that `dump` wrote, and return True. Raises NotAMessage."""
        self.add_dialogs(*json.loads(Path(path).read_text(encoding="utf8")))
        return True

    def reset_api_key(self, api_key: ApiKey) -> None:
        """Use another key, pool or function from now on. Raises BadInput."""
        self._keys = key_source(api_key)

    # -- the history

    @property
    def version(self) -> int:
        """The version of the conversation's last event; 0 before the first."""
        return self.conversation.version

    @property
    def head(self) -> str:
        """The hash of the conversation's last event, in hex; it commits to all events before it."""
        return self.conversation.head

    def at(self, version: int | str | datetime) -> list[Message]:
        """Return the messages of the view at *version*, or at a time, as in `at("2026-11-22T10:05")`.

        Raises UnknownVersion, and BadInput if the time cannot be parsed.
        """
        return self.conversation.at(version)

    def events(self) -> Iterator[ev.Recorded]:
        """Yield the events of this conversation's own stream, oldest first."""
        return self.conversation.events()

    def restore(self, version: int) -> None:
        """Make the view again what it was at *version*. This can be undone. Raises UnknownVersion."""
        self.conversation.restore(version)

    def undo(self, n: int = 1) -> int:
        """Undo the last *n* actions (a round, a rollback, a pin …), and return how many were undone."""
        return self.conversation.undo(n)

    def redo(self, n: int = 1) -> int:
        """Redo what the last *n* undos took back, and return how many were redone."""
        return self.conversation.redo(n)

    def fork(self, name: str | None = None, at: int | None = None) -> Self:
        """Return a chat on a fork of this conversation at version *at* (None: now), with the same settings.

        Raises UnknownVersion, NameTaken, BadInput.
        """
        return self._with(self.conversation.fork(name, at))

    def _with(self, conversation: Conversation, model: str | None = None) -> Self:
        """Return a chat on another conversation of this store, with the same settings but *model*."""
        twin = copy.copy(self)
        twin.conversation = conversation
        twin.model = model or self.model
        twin._owner = object()
        if self._owned:
            twin.engine = self.engine.share()
            conversation.handle = twin.engine.handle  # the twin's alone: it closes with the twin
        return twin

    def interrupted(self) -> list[Draft]:
        """Return the requests that a crash interrupted: `keep` or `drop` each; `retry` works after `drop`."""
        return self.conversation.interrupted()

    def keep(self, draft: Draft) -> None:
        """Add the received part of an interrupted answer to the view, marked as stopped."""
        self.conversation.keep(draft)

    def drop(self, draft: Draft) -> None:
        """Record an interrupted request as failed; the received part stays in the log only."""
        self.conversation.drop(draft)

    # -- asking again

    def retry(self, **options: Any) -> str:
        """Ask the last question again, and return the new answer's text.

        The new answer replaces the old one, which stays in the history. After a request that failed, its
        question is asked again. Raises Refused if there is no question.
        """
        return self._run(*self._retry(options, stream=False)).text

    def stream_retry(self, **options: Any) -> Iterator[str]:
        """`retry`, as an iterator of texts."""
        return TextStream(self._start(*self._retry(options, stream=True)))

    async def async_retry(self, **options: Any) -> str:
        """`retry`, awaited."""
        return (await self._arun(*self._retry(options, stream=False))).text

    def async_stream_retry(self, **options: Any) -> AsyncIterator[str]:
        """`stream_retry`, as an async iterator."""
        return AsyncTextStream(self._async_start(*self._retry(options, stream=True)))

    def replay(
        self,
        model: str | None = None,
        system: str | None = None,
        at: int | None = None,
        name: str | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
        **create_options: Any,
    ) -> Self:
        """Ask every question from version *at* on (None: all) again, on a fork; return the fork's chat.

        Each question is asked with the new answers before it, and other changes of the view (pins, rollbacks,
        imports …) are repeated. `openai2.replay.plan` documents tool calls, failures and the like. *model*,
        *system* (the system message) and *create_options* replace the recorded ones.

        The fork is made with its first answer: a wrong model leaves nothing behind. After a failure or
        Ctrl-C, the same call asks what is missing. A complete replay is returned as it is, unless another
        *name* is given. *progress* is called after each answer.

        Raises the `openai` exception of a failed request, Refused if there is no question, UnknownVersion,
        NameTaken, BadInput.
        """
        from openai2.replay.run import ReplayRun

        variant = _replay_options(model, system, at, name, create_options)
        run = ReplayRun(self.engine, self.conversation, variant)
        return self._with(run.run(self._run_replayed, progress), model)

    async def async_replay(
        self,
        model: str | None = None,
        system: str | None = None,
        at: int | None = None,
        name: str | None = None,
        *,
        progress: Callable[[Progress], object] | None = None,
        **create_options: Any,
    ) -> Self:
        """`replay`, awaited."""
        from openai2.replay.run import ReplayRun

        variant = _replay_options(model, system, at, name, create_options)
        run = await asyncio.to_thread(ReplayRun, self.engine, self.conversation, variant)
        return self._with(await run.async_run(self._arun_replayed, progress), model)

    async def async_replay_all(
        self,
        conversations: Iterable[str | Conversation] | None = None,
        models: Sequence[str | None] = (None,),
        system: str | None = None,
        *,
        jobs: int = 8,
        progress: Callable[[Progress], object] | None = None,
        **create_options: Any,
    ) -> list[Replayed]:
        """Replay many conversations of this store on each of *models*, *jobs* at a time.

        *conversations* are names, ids or Conversations; None selects all that hold a question and are
        neither archived nor replays. *progress* is called after each answer and each end. The result of a
        replay that failed holds its error; the same call again asks what is missing.

        Raises UnknownConversation, BadInput.
        """
        from openai2.replay.run import run_all

        variants = [_replay_options(model, system, None, None, create_options) for model in models]
        ask = self._arun_replayed
        return await run_all(self.engine, conversations, variants, ask, jobs=jobs, progress=progress)

    # -- closing

    def close(self) -> None:
        """Stop the open requests, and release the store. HTTP clients are shared between chats and stay open.

        What came of each request is on record when this returns. A stream that is read afterwards raises
        StoreError.
        """
        if self._owned:
            self.engine.close()
        else:
            self.engine.handle.stop_requests(self._owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def aclose(self) -> None:
        """`close`, awaited."""
        import anyio.to_thread

        with anyio.CancelScope(shield=True):
            try:
                await anyio.to_thread.run_sync(self.close)
            except RuntimeError:  # no thread can be started
                self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- requests

    def _request(
        self, question: list[bytes], options: Mapping[str, Any], *, stream: bool, **more: Any
    ) -> tuple[RequestSpec, RequestOptions]:
        """Return what to ask, and the options of the request: those of the call over those of the chat.

        *more* are further fields of the RequestSpec.
        """
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

    def _retry(self, options: Mapping[str, Any], *, stream: bool) -> tuple[RequestSpec, RequestOptions]:
        return self._request([], options, stream=stream, retry=True)

    def _flow(self, spec: RequestSpec, options: RequestOptions) -> Flow:
        policy = AttemptPolicy(
            clock=time.monotonic,
            wall=time.time,
            random=random.random,
            retries=options.retries,
            timeout=options.timeout,
            secrets=options.secrets,
        )
        return converse(spec, self._keys or _environment_key(options.client), policy)

    def _start(self, spec: RequestSpec, options: RequestOptions, log: RequestLog | None = None) -> Request:
        exchange = Exchange(options, through_create=self.use_create)
        where = log or self.conversation, self.engine.handle
        return Request(self._flow(spec, options), *where, exchange, self._owner, options.on_reasoning)

    def _run(self, spec: RequestSpec, options: RequestOptions, log: RequestLog | None = None) -> Answer:
        return self._start(spec, options, log).run()

    def _async_start(
        self, spec: RequestSpec, options: RequestOptions, log: RequestLog | None = None
    ) -> AsyncRequest:
        exchange = AsyncExchange(options, through_create=self.use_create)
        where = log or self.conversation, self.engine.handle
        return AsyncRequest(self._flow(spec, options), *where, exchange, self._owner, options.on_reasoning)

    async def _arun(
        self, spec: RequestSpec, options: RequestOptions, log: RequestLog | None = None
    ) -> Answer:
        return await self._async_start(spec, options, log).run()

    def _replayed(self, spec: RequestSpec) -> tuple[RequestSpec, RequestOptions]:
        """Return a request on record as this chat asks it: only how it travels is the chat's."""
        call = {**spec.options, "model": spec.model or self.model}
        options = RequestOptions.merge(self._options.travel_only(), call, model=None, stream=spec.stream)
        spec = msgspec.structs.replace(
            spec, model=options.model, options=options.recorded, send_reasoning=self.send_reasoning
        )
        return spec, options

    def _run_replayed(self, log: RequestLog, spec: RequestSpec) -> Answer:
        return self._run(*self._replayed(spec), log)

    async def _arun_replayed(self, log: RequestLog, spec: RequestSpec) -> Answer:
        return await self._arun(*self._replayed(spec), log)


def _replay_options(
    model: str | None, system: str | None, at: int | None, name: str | None, options: Mapping[str, Any]
) -> ReplayOptions:
    from openai2.replay.run import ReplayOptions

    given = drop_not_given(options)
    check_create_options(split_options(given, call=True).create)
    return ReplayOptions(model, system, at, name, given, recordable(given))


def _environment_key(client_options: Mapping[str, Any]) -> KeySource:
    if not _OTHER_CREDENTIALS.isdisjoint(client_options):
        return SingleKey("")  # the client authenticates in another way
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise NoKey("no API key: pass api_key=…, or set OPENAI_API_KEY; openai2.offline answers without one")
    return SingleKey(check_key(key))
