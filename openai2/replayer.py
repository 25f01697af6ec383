"""A dialogue that can be replayed: the faces of `openai2.replay`, for one dialogue and for many.

Rules: what is asked is what was asked, with its options and its limit; only how a request travels (keys,
addresses, headers, patience) is that of the dialogue at hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from openai2.api.options import (
    RequestOptions,
    check_create_options,
    drop_not_given,
    recordable,
    split_options,
)
from openai2.base_chat import BaseChat
from openai2.conversation import Conversation
from openai2.core.request_events import RequestSpec

if TYPE_CHECKING:
    from typing_extensions import Self

    from openai2.replay.run import Progress, Replayed, Replaying, Wish


class Replayer(BaseChat):
    """What `Chat` and `GroupChat` are made of: a `BaseChat`, and its replays."""

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
        """Ask every question from version *at* on (None: all) again, on a fork; the dialogue of the fork.

        Each is asked with the new answers before it, and what else happened (pins, rollbacks, imports …)
        happens again; `openai2.replay.plan` tells what becomes of tool calls, failures and the like. *model*,
        *system* (the system message) and *create_options* take the place of what was.

        The fork comes to be together with its first answer: a model that does not exist leaves nothing
        behind. After a failure or Ctrl-C the same call goes on with what is missing. One that is complete is
        returned as it is; a *name* of its own makes another. *progress* is called after each answer.

        Raises the `openai` exception of a request that failed, Refused where there is nothing to ask again,
        UnknownVersion, NameTaken, BadInput.
        """
        work, player = self._replaying(_wish(model, system, at, name, create_options))
        try:
            for ask in work.asks():
                player._run(*player._asked_again(ask))
                _tell(progress, work, ask)
        except BaseException:
            player.close()
            raise
        return player._settled(self)

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
        wish = _wish(model, system, at, name, create_options)
        work, player = await asyncio.to_thread(self._replaying, wish)
        try:
            async for ask in work.async_asks():
                await player._arun(*player._asked_again(ask))
                _tell(progress, work, ask)
        except BaseException:
            player.close()
            raise
        return player._settled(self)

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

        *conversations* are names, ids, or themselves; None: all that are not archived, no replays, and hold
        a question. *progress* is called after each answer and each end. A replay that fails is told in the
        result and does not stop the others; the same call again goes on with what is missing.

        Raises UnknownConversation, BadInput.
        """
        from openai2.replay import run as replay_run

        chosen = await asyncio.to_thread(replay_run.choose, self.engine, conversations)
        wishes = [_wish(model, system, None, None, create_options) for model in models]
        many = replay_run.Many(jobs, len(chosen) * len(wishes), progress)

        async def one(source: Conversation, wish: Wish) -> Replayed:
            async with many.free:
                player = twin = self._with(source)
                latest = replay_run.Replayed(source.id, wish.model, None, 0, None)
                try:
                    work, player = await asyncio.to_thread(twin._replaying, wish)
                    latest = work.told()
                    async for ask in work.async_asks():
                        await player._arun(*player._asked_again(ask))
                        many.went_on(latest := work.told(ask))
                    latest = work.told()
                except Exception as error:  # noqa: BLE001 - it is told in the result, whatever it is
                    latest = latest._replace(error=error)
                finally:
                    twin.close()
                    player.close()
                return many.ended(latest)

        return list(await asyncio.gather(*[one(source, wish) for source in chosen for wish in wishes]))

    # -- inside

    def _replaying(self, wish: Wish) -> tuple[Replaying, Self]:
        """The replay, and this dialogue's twin that asks for it."""
        from openai2.replay import run as replay_run

        check_create_options(split_options(wish.options, call=True).create)
        work = replay_run.Replaying(self.engine, self.conversation, wish, recordable(wish.options))
        player = self._with(work.conversation)
        player.model = wish.model or self.model
        player._options = self._options.travel_only()
        return work, player

    def _settled(self, origin: BaseChat) -> Self:
        """The twin, once it has asked all: a dialogue like its origin."""
        self._options = origin._options
        return self

    def _asked_again(self, ask: RequestSpec) -> tuple[RequestSpec, RequestOptions]:
        asked, options = self._asking(
            ask.question,
            {**ask.options, "model": ask.model or self.model},
            stream=ask.stream,
            again=ask.again,
            retry=ask.retry,
            remarks=ask.remarks,
            replays=ask.replays,
        )
        return msgspec.structs.replace(asked, limit=ask.limit), options


def _tell(progress: Callable[[Progress], object] | None, work: Replaying, answered: RequestSpec) -> None:
    from openai2.replay import run as replay_run

    if progress is not None:
        progress(replay_run.Progress(0, 1, work.told(answered)))


def _wish(
    model: str | None, system: str | None, at: int | None, name: str | None, options: dict[str, Any]
) -> Wish:
    from openai2.replay import run as replay_run

    return replay_run.Wish(model, system, at, name, drop_not_given(options))
