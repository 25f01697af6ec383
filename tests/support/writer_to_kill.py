"""A program to be killed: it chats, streams and edits without end, and reports through a pipe.

It sends `("ack", STATE)` after a call has returned, `("ask", TEXT)` before a stream begins and
`("piece", TEXT)` for each piece of it.
"""

from __future__ import annotations

import asyncio
import random
from multiprocessing.connection import Connection

from openai2 import Chat, user_msg


def main(pipe: Connection, db: str, base_url: str, conversation: str, seed: int) -> None:
    chance = random.Random(seed)

    def say(word: str, what: object) -> None:
        pipe.send((word, what))

    chat = Chat("sk-fake", "m", base_url=base_url, db=db, conversation=conversation, max_retries=0)
    say("ack", {"open": chat.conversation.id, "version": chat.version})
    for number in range(1_000_000):
        match chance.choice(["add", "request", "stream", "stream", "async", "rollback", "pin", "leave"]):
            case "add":
                chat.add_dialogs(user_msg(f"one {number}"), user_msg(f"two {number}"))
            case "request":
                chat.request(f"request {number}")
            case "stream":
                say("ask", f"stream {number}")
                for piece in chat.stream_request(f"stream {number}"):
                    say("piece", piece)
            case "async":
                asyncio.run(_ask(chat, f"async {number}"))
            case "rollback":
                chat.rollback()
            case "pin":
                if chat.fetch_messages():
                    chat.pin_messages(-1)
            case _:
                for piece in chat.stream_request(f"leave {number}"):
                    if piece:
                        break
        say("ack", {"version": chat.version, "head": chat.head, "messages": chat.fetch_messages()})


async def _ask(chat: Chat, text: str) -> None:
    await chat.async_request(text)
