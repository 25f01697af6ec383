"""Concurrent requests in one event loop: requests a second, and stalls of the loop."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from benchmarks.harness import KEY, Bench, fresh, url

REQUESTS, AT_ONCE = 1000, 50


async def _all(count: int, at_once: int, ask: Callable[[int], Awaitable[object]]) -> float:
    """Return the seconds of *count* requests by *at_once* workers, after one each to warm up."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(ask(number) for number in range(at_once)))
    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return time.perf_counter() - started


def create(at_once: int = AT_ONCE, count: int = REQUESTS, aiohttp: bool = False) -> float:
    """Return the seconds of a request by the bare client, with *aiohttp* over the SDK's client for it."""
    import openai

    async def main() -> float:
        http = openai.DefaultAioHttpClient() if aiohttp else None
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url(), http_client=http) as client:

            async def ask(number: int) -> None:
                await client.chat.completions.create(
                    model="answer", messages=[{"role": "user", "content": f"What comes after {number}?"}]
                )

            return await _all(count, at_once, ask) / count

    return asyncio.run(main())


def post(at_once: int = AT_ONCE, count: int = REQUESTS) -> float:
    """Return the seconds of a request by the client's own `post`, with bytes in and bytes out."""
    import httpx2
    import openai

    body = b'{"messages":[{"role":"user","content":"What comes after 1?"}],"model":"answer"}'

    async def main() -> float:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=url()) as client:

            async def ask(_: int) -> None:
                await client.post("/chat/completions", cast_to=httpx2.Response, content=body)

            return await _all(count, at_once, ask) / count

    return asyncio.run(main())


def chats(at_once: int = AT_ONCE, count: int = REQUESTS) -> float:
    """Return the seconds of a request, each by another Chat in one store."""
    from openai2 import Chat, Engine

    async def main() -> float:
        with Engine(fresh("async")) as engine:

            async def ask(number: int) -> None:
                chat = Chat(KEY, "answer", base_url=url(), db=engine)
                await chat.async_request(f"What comes after {number}?")

            return await _all(count, at_once, ask) / count

    return asyncio.run(main())


def stalls(streams: int = 50) -> float:
    """Return the seconds by which a task that sleeps a millisecond wakes too late, the 95th percentile.

    Meanwhile *streams* streams run twice, each of 100 chunks that come 20 ms apart, and are committed.
    """
    from openai2 import Chat, Engine

    async def main() -> float:
        late: list[float] = []

        async def ticker() -> None:
            loop = asyncio.get_running_loop()
            while True:
                due = loop.time() + 0.001
                await asyncio.sleep(0.001)
                late.append(loop.time() - due)

        with Engine(fresh("stalls")) as engine:

            async def talk(number: int) -> None:
                chat = Chat(KEY, "paced-100-20", base_url=url(), db=engine)
                await asyncio.sleep(number * 0.04)  # spread over the duration of a stream
                for question in ("One.", "Two."):
                    async for _ in chat.async_stream_request(question):
                        pass

            talks = asyncio.gather(*(talk(number) for number in range(streams)))
            await asyncio.sleep(0.5)  # not measured: the import of openai, the first connection
            ticking = asyncio.create_task(ticker())
            await talks
            ticking.cancel()
        return statistics.quantiles(late, n=20)[-1]

    import openai  # noqa: F401

    return asyncio.run(main())


if __name__ == "__main__":
    with Bench("concurrent") as bench:
        bench.amount("async floor", create, "second")
        bench.amount("async-post", post, "second")
        bench.amount("async-aiohttp", lambda: create(aiohttp=True), "second")
        bench.amount("async", chats, "second")
        bench.amount("stalls", stalls, "second")
