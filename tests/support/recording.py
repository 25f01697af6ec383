"""Programs with the `openai` client, to be recorded and replayed."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest

from openai2 import user_msg

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion

KEY = "sk-test-0123456789"
ADDRESS = "http://127.0.0.1:9/v1"  # nothing listens there


@contextmanager
def no_network() -> Generator[None, None, None]:
    """Refuse all connections."""

    def refuse(*args: Any) -> None:
        raise AssertionError("something went over the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket.socket, "connect_ex", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def client(base_url: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, base_url=base_url, max_retries=0, **options)


def ask(api: openai.OpenAI, text: str = "自然数50的后面是几?", **options: Any) -> str | None:
    create: Any = api.chat.completions.create
    done: ChatCompletion = create(messages=[user_msg(text)], **{"model": "m", **options})
    return done.choices[0].message.content


def stream(api: openai.OpenAI, text: str = "世界上最大的海洋是哪个?") -> list[str | None]:
    messages: Any = [{"role": "user", "content": text}]
    with api.chat.completions.create(model="m", messages=messages, stream=True) as chunks:
        return [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
