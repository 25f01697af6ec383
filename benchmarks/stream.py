"""CPU of a stream of chunks by a Chat, beside the bare client that stores nothing."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import KEY, Bench, Work, fresh, url


def create(model: str) -> Work:
    """Return a read of the client's stream."""
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=url())

    def read() -> None:
        stream = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "Tell me."}], stream=True
        )
        for chunk in stream:
            _ = chunk.choices[0].delta.content

    return read


def chat(model: str) -> Work:
    """Return a read of a Chat's stream, which stores question, drafts and answer."""
    from openai2 import Chat

    talking = Chat(KEY, model, base_url=url(), db=fresh("stream"), MsgMaxCount=2)

    def read() -> None:
        for _ in talking.stream_request("Tell me."):
            pass

    return read


if __name__ == "__main__":
    with Bench("stream") as bench:
        for name, model in (("stream", "chunks-5000"), ("stream-paced", "paced-200-2")):
            bench.cpu(f"{name} floor", partial(create, model))
            bench.cpu(name, partial(chat, model))
