"""The loop of a model and its tools: ask, run what it calls, tell it what came, until it answers.

Rules:
- Each answer and each call's result is an event; the results of one answer's calls join the view together
  and at once, so that the view never holds a part of them.
- Nothing that a tool does ends the loop. What was not run (the caller left, the bound was reached) is told
  as such, so that the dialogue can go on. Where a program died before its tools had ended, the view ends
  with calls: a loop without a new question begins by running them.
- Somebody else may go on with the conversation meanwhile. Results that no longer fit right behind their
  calls are refused.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from openai2.conversation import Conversation
from openai2.core import decisions
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.request_events import StreamState
from openai2.core.typeguards import is_int
from openai2.errors import BadInput, Refused
from openai2.tools import functions as tool_functions
from openai2.tools.functions import Call, Tool

#: Calls of one answer that run at the same time.
AT_ONCE = 8

#: Asks: (text, parts, options, said) -> the answer's text; the answer's message is put into *said*.
RequestSpec = Callable[[str | None, Sequence[Mapping[str, Any]], dict[str, Any], list[bytes]], str]
AsyncAsk = Callable[[str | None, Sequence[Mapping[str, Any]], dict[str, Any], list[bytes]], Awaitable[str]]


class Loop:
    """What a loop knows, whoever awaits."""

    def __init__(
        self,
        conversation: Conversation,
        functions: Sequence[Callable[..., Any]],
        max_rounds: int,
        question: tuple[str | None, Sequence[Mapping[str, Any]]],
        options: Mapping[str, Any],
    ) -> None:
        if not is_int(max_rounds, 1):
            raise BadInput("max_rounds is a whole number of 1 or more, not {given}", given=max_rounds)
        self._conversation = conversation
        self.tools = tool_functions.tools_of(functions)
        self._most = max_rounds
        self._text, self._parts = question
        self._options = dict(options)
        self._rounds = 0
        self.said: list[bytes] = []
        self._standing: int | None = None  # the id of the message whose calls are run

    def question(self) -> tuple[str | None, Sequence[Mapping[str, Any]], dict[str, Any], list[bytes]]:
        """What is asked in the round that begins."""
        text, parts, self._text, self._parts = self._text, self._parts, None, ()
        options = {**self._options, "tools": tool_functions.definitions(self.tools)}
        if "tool_choice" in options:
            options["tool_choice"] = tool_functions.chosen(options["tool_choice"], self._rounds)
        self._options.pop("messages", None)
        self._rounds += 1
        self.said = []
        return text, parts, options, self.said

    def pending(self) -> list[Call]:
        """Calls at the view's end that a loop before this one left, where there is no new question."""
        if self._text is not None or self._parts or self._options.get("messages"):
            return []
        held = self._conversation.view_messages()
        if not held or not (calls := tool_functions.calls_in(held[-1].message)):
            return []
        self._standing = held[-1].id
        return calls

    def calls(self) -> list[Call]:
        """The calls of the answer that came. Raises Refused once the rounds are used up."""
        message = msg.decode(self.said[0])
        calls = tool_functions.calls_in(message)
        if not calls:
            return calls
        self._standing = next(
            (held.id for held in reversed(self._conversation.view_messages()) if held.message == message),
            None,
        )
        if self._rounds >= self._most:
            self.put([tool_functions.failure(call, "not run: too many rounds of calls") for call in calls])
            raise Refused(
                "the model still calls tools after {rounds} rounds; max_rounds= allows more",
                rounds=self._rounds,
                conversation=self._conversation.id,
            )
        return calls

    def ready(self, call: Call) -> Callable[[], Any] | dict[str, Any]:
        """What runs the call, or the result that says why it cannot be run."""
        tool = self.tools.get(call.name)
        if tool is None:
            return tool_functions.unknown(call, self.tools)
        try:
            by_place, by_name = tool.bind(call.arguments)
        except (ValueError, RecursionError) as error:
            return tool_functions.raised(call, error)
        return lambda: tool.function(*by_place, **by_name)

    def is_async(self, call: Call) -> bool:
        tool: Tool | None = self.tools.get(call.name)
        return tool is not None and tool.is_async

    def leave(self, calls: Sequence[Call]) -> None:
        """The caller left while tools ran: say so, that the view can be gone on with."""
        self.put([tool_functions.failure(call, "interrupted before it had ended") for call in calls])

    def put(self, results: Sequence[Mapping[str, Any]]) -> None:
        """The results join the view, right behind their calls. Raises Refused where others went on."""
        encoded = msg.encode_all(results)

        def decide(state: StreamState) -> list[ev.Event]:
            if state.view.ids[-1:] != [self._standing]:
                raise Refused(
                    "conversation {conversation} went on while tools ran; their results have no place in it",
                    conversation=self._conversation.id,
                )
            return decisions.add(encoded)

        self._conversation.commit(decide)


def run(loop: Loop, ask: RequestSpec) -> str:
    """Run the loop; the text of the answer that calls no more tools."""
    waiting = [tool.name for tool in loop.tools.values() if tool.is_async]
    if waiting:
        raise BadInput("tool {name} is async: async_run awaits it", name=waiting[0])
    calls = loop.pending()
    while True:
        if calls:
            try:
                results = _all(loop, calls)
            except BaseException:
                loop.leave(calls)
                raise
            loop.put(results)
        text = ask(*loop.question())
        calls = loop.calls()
        if not calls:
            return text


def _all(loop: Loop, calls: Sequence[Call]) -> list[dict[str, Any]]:
    if len(calls) == 1:
        return [_one(loop, calls[0])]
    pool = ThreadPoolExecutor(min(AT_ONCE, len(calls)), thread_name_prefix="openai2-tool")
    try:
        futures = [pool.submit(contextvars.copy_context().run, _one, loop, call) for call in calls]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one(loop: Loop, call: Call) -> dict[str, Any]:
    job = loop.ready(call)
    if not callable(job):
        return job
    try:
        return tool_functions.result(call, job())
    except Exception as error:  # noqa: BLE001 - whatever it is, the model is told, and it is on record
        return tool_functions.raised(call, error)


async def arun(loop: Loop, ask: AsyncAsk) -> str:
    """`run`, awaited; tools that are no coroutines run in threads."""
    calls = loop.pending()
    while True:
        if calls:
            try:
                results = await asyncio.gather(*(_aone(loop, call) for call in calls))
            except BaseException:
                loop.leave(calls)
                raise
            await asyncio.to_thread(loop.put, results)
        text = await ask(*loop.question())
        calls = await asyncio.to_thread(loop.calls)
        if not calls:
            return text


async def _aone(loop: Loop, call: Call) -> dict[str, Any]:
    if not loop.is_async(call):
        return await asyncio.to_thread(_one, loop, call)
    job = loop.ready(call)
    if not callable(job):
        return job
    try:
        return tool_functions.result(call, await job())
    except Exception as error:  # noqa: BLE001 - whatever it is, the model is told, and it is on record
        return tool_functions.raised(call, error)
