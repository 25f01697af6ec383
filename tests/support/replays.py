"""An API for replays that answers by a function, and checks of what replays leave in the store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2

from openai2 import Chat, assistant_msg
from openai2.offline import answer

KEY = "sk-test"


class FakeApi:
    """An API that answers by *said*, and refuses the requests whose number *fails* accepts."""

    def __init__(self, said: Callable[[dict[str, Any]], str | dict[str, Any]] | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.fails: Callable[[int], bool] = lambda number: False
        self._said: Callable[[dict[str, Any]], str | dict[str, Any]] = said or _by_the_rules
        self.client = httpx2.Client(transport=httpx2.MockTransport(self.respond))

    def respond(self, request: httpx2.Request) -> httpx2.Response:
        body: dict[str, Any] = json.loads(request.content)
        self.bodies.append(body)
        if body["model"] == "no-such-model":
            return httpx2.Response(404, json={"error": {"message": "there is no such model"}})
        if self.fails(len(self.bodies)):
            return httpx2.Response(500, json={"error": {"message": "out of order"}})
        said = self._said(body)
        message = said if isinstance(said, dict) else assistant_msg(said)
        finish = "tool_calls" if message.get("tool_calls") else "stop"
        head: dict[str, Any] = {"id": "x", "model": body["model"]}
        if not body.get("stream"):
            whole = {"index": 0, "message": message, "finish_reason": finish}
            return httpx2.Response(200, json={**head, "choices": [whole]})
        first = {"index": 0, "delta": message, "finish_reason": None}
        last: dict[str, Any] = {"index": 0, "delta": {}, "finish_reason": finish}
        text = "".join(f"data: {json.dumps({**head, 'choices': [part]})}\n\n" for part in (first, last))
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, text=text + "data: [DONE]\n\n", headers=headers)

    def chat(self, db: Any = None, conversation: str | None = None, **options: Any) -> Chat:
        return Chat(KEY, db=db, conversation=conversation, http_client=self.client, max_retries=0, **options)

    @property
    def asked(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.bodies]


def _by_the_rules(body: dict[str, Any]) -> str:
    return answer(body["messages"])


def check_store(chat: Chat) -> None:
    report = chat.engine.verify()
    assert report.ok, report.problems
