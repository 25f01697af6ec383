"""CPU of a request by a Chat that stores everything, beside the bare client that stores nothing."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import KEY, Bench, Work, fresh, messages, url

ROUNDS = 5


def create_short() -> Work:
    """Return a dialogue of five rounds by `create`, whose list of messages grows by two a round."""
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=url())

    def dialogue() -> None:
        view: list[dict[str, str]] = []
        for number in range(ROUNDS):
            view.append({"role": "user", "content": f"What comes after {number}?"})
            done = client.chat.completions.create(model="answer", messages=view)  # type: ignore[arg-type]
            view.append({"role": "assistant", "content": done.choices[0].message.content or ""})

    return dialogue


def post_short() -> Work:
    """Return five requests by the client's own `post`, with bytes in and bytes out."""
    import httpx2
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=url())
    body = b'{"messages":[{"role":"user","content":"What comes after 1?"}],"model":"answer"}'

    def dialogue() -> None:
        for _ in range(ROUNDS):
            _ = client.post("/chat/completions", cast_to=httpx2.Response, content=body).content

    return dialogue


def chat_short() -> Work:
    """Return a dialogue of five rounds by a Chat, each in a new conversation of one store."""
    from openai2 import Chat, Engine

    engine = Engine(fresh("request"))

    def dialogue() -> None:
        chat = Chat(KEY, "answer", base_url=url(), db=engine)
        for number in range(ROUNDS):
            chat.request(f"What comes after {number}?")

    return dialogue


def create(count: int) -> Work:
    """Return a question by `create` after *count* messages."""
    import openai

    client = openai.OpenAI(api_key=KEY, base_url=url())
    view = [*messages(count), {"role": "user", "content": "And next?"}]
    return lambda: client.chat.completions.create(model="answer", messages=view)  # type: ignore[arg-type]


def chat(count: int) -> Work:
    """Return a question by a Chat after *count* messages; its view grows by two each time."""
    from openai2 import Chat

    talking = Chat(KEY, "answer", base_url=url(), db=fresh("request"))
    talking.add_dialogs(*messages(count))
    return lambda: talking.request("And next?")


if __name__ == "__main__":
    with Bench("request") as bench:
        bench.cpu("request floor", create_short, 20)
        bench.cpu("request-post", post_short, 20)
        bench.cpu("request", chat_short, 20)
        for size, times in ((100, 20), (2000, 3)):
            bench.cpu(f"request-{size} floor", partial(create, size), times)
            bench.cpu(f"request-{size}", partial(chat, size), max(times, 20))
