"""The loop of a model and its tools: ask, run the calls, send the results, until the model answers.

Invariants:
- Each answer and each call's result is an event. The results of one answer's calls join the view in one
  transaction, right behind the calls; if another writer changed the view's end meanwhile, they are refused.
- A tool that fails does not end the loop: its result says why. Calls that were not run (the caller left, too
  many rounds) get a result too, so that the conversation can go on.
- If a program died before its tools ended, the view ends with calls. A loop without a new question runs them
  first.
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
from openai2.request.effects import Answer
from openai2.tools import functions
from openai2.tools.functions import Call

#: Calls of one answer that run at the same time.
MAX_THREADS = 8

Parts = Sequence[Mapping[str, Any]]
#: Text, parts and options of a question.
Question = tuple[str | None, Parts, dict[str, Any]]
Ask = Callable[[str | None, Parts, dict[str, Any]], Answer]
AsyncAsk = Callable[[str | None, Parts, dict[str, Any]], Awaitable[Answer]]


class ToolLoop:
    """One run of the loop. *question* is the text and the parts of the first question, *limit* MsgMaxCount.

    Raises BadInput for a function that cannot be a tool and for *max_rounds* below 1.
    """

    def __init__(
        self,
        conversation: Conversation,
        tools: Sequence[Callable[..., Any]],
        max_rounds: int,
        question: tuple[str | None, Parts],
        options: Mapping[str, Any],
        limit: int | None = None,
    ) -> None:
        if not is_int(max_rounds, 1):
            raise BadInput("expected max_rounds of 1 or more, got {given}", given=max_rounds)
        self._conversation = conversation
        self._tools = functions.tools_of(tools)
        self._max_rounds = max_rounds
        self._text, self._parts = question
        self._options = dict(options)
        self._limit = limit
        self._rounds = 0
        self._caller_id: int | None = None  # the message whose calls run

    def run(self, ask: Ask) -> str:
        """Run the loop; return the text of the first answer without calls."""
        for tool in self._tools.values():
            if tool.is_async:
                raise BadInput("tool {name} is async: use async_run", name=tool.name)
        calls = self._calls_left()
        while True:
            if calls:
                try:
                    results = self._run_calls(calls)
                except BaseException:
                    self._add_interrupted(calls)
                    raise
                self._add_results(results)
            answer = ask(*self._next_question())
            calls = self._calls_of(answer)
            if not calls:
                return answer.text

    async def async_run(self, ask: AsyncAsk) -> str:
        """`run`, awaited; tools that are not coroutine functions run in threads."""
        calls = self._calls_left()
        while True:
            if calls:
                try:
                    results = await asyncio.gather(*(self._arun_call(call) for call in calls))
                except BaseException:
                    self._add_interrupted(calls)
                    raise
                await asyncio.to_thread(self._add_results, results)
            answer = await ask(*self._next_question())
            calls = await asyncio.to_thread(self._calls_of, answer)
            if not calls:
                return answer.text

    # -- questions and answers

    def _next_question(self) -> Question:
        text, parts, self._text, self._parts = self._text, self._parts, None, ()
        options = {**self._options, "tools": functions.definitions(self._tools)}
        if "tool_choice" in options:
            options["tool_choice"] = functions.choice_for_round(options["tool_choice"], self._rounds)
        self._options.pop("messages", None)
        self._rounds += 1
        return text, parts, options

    def _calls_left(self) -> list[Call]:
        """Return the calls at the view's end if there is no new question."""
        if self._text is not None or self._parts or self._options.get("messages"):
            return []
        messages = self._conversation.view_messages()
        if not messages or not (calls := functions.calls_in(messages[-1].message)):
            return []
        self._caller_id = messages[-1].id
        return calls

    def _calls_of(self, answer: Answer) -> list[Call]:
        """Return the calls of an answer. Raises Refused after the last round."""
        message = msg.decode(answer.message)
        calls = functions.calls_in(message)
        if not calls:
            return calls
        in_view = reversed(self._conversation.view_messages())
        self._caller_id = next((each.id for each in in_view if each.message == message), None)
        if self._rounds >= self._max_rounds:
            self._add_results(
                [functions.failure(call, "not run: too many rounds of calls") for call in calls]
            )
            raise Refused(
                "the model still calls tools after {rounds} rounds: pass a larger max_rounds",
                rounds=self._rounds,
                conversation=self._conversation.id,
            )
        return calls

    # -- calls

    def _run_calls(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        if len(calls) == 1:
            return [self._run_call(calls[0])]
        pool = ThreadPoolExecutor(min(MAX_THREADS, len(calls)), thread_name_prefix="openai2-tool")
        try:
            futures = [pool.submit(contextvars.copy_context().run, self._run_call, call) for call in calls]
            return [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _run_call(self, call: Call) -> dict[str, Any]:
        job = self._bind(call)
        if not callable(job):
            return job
        try:
            return functions.result(call, job())
        except Exception as error:  # noqa: BLE001 - the result tells the model, and is on record
            return functions.raised(call, error)

    async def _arun_call(self, call: Call) -> dict[str, Any]:
        tool = self._tools.get(call.name)
        if tool is None or not tool.is_async:
            return await asyncio.to_thread(self._run_call, call)
        job = self._bind(call)
        if not callable(job):
            return job
        try:
            return functions.result(call, await job())
        except Exception as error:  # noqa: BLE001 - the result tells the model, and is on record
            return functions.raised(call, error)

    def _bind(self, call: Call) -> Callable[[], Any] | dict[str, Any]:
        """Return a function that runs the call, or the result that says why it cannot be run."""
        tool = self._tools.get(call.name)
        if tool is None:
            return functions.unknown(call, self._tools)
        try:
            positional, named = tool.bind(call.arguments)
        except (ValueError, RecursionError) as error:
            return functions.raised(call, error)
        return lambda: tool.function(*positional, **named)

    # -- results

    def _add_interrupted(self, calls: Sequence[Call]) -> None:
        self._add_results([functions.failure(call, "interrupted before it had ended") for call in calls])

    def _add_results(self, results: Sequence[Mapping[str, Any]]) -> None:
        encoded = msg.encode_all(results)

        def decide(state: StreamState) -> list[ev.Event]:
            if state.view.ids[-1:] != [self._caller_id]:
                raise Refused(
                    "conversation {conversation} was changed while tools ran: their results were not added",
                    conversation=self._conversation.id,
                )
            return decisions.add_within(self._limit, state.view, state.next_id, encoded)

        self._conversation.commit(decide)
