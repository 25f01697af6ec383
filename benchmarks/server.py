"""A loopback server in a separate process that answers at once.

The model's name selects the answer: `answer` a short whole answer, `chunks-5000` a stream of 5,000 chunks at
once, `paced-200-5` one of 200 chunks, 5 milliseconds apart. Each is an HTTP chunk, as real servers send.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

ANSWER = {
    "id": "chatcmpl-benchmark",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "answer",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Measured, not guessed.", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21},
}
_MODEL = re.compile(rb'"model": ?"([^"]*)"')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def _http_chunk(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {key: ANSWER[key] for key in ("id", "created", "model")}
    whole = {**head, "object": "chat.completion.chunk", "choices": [choice]}
    return _http_chunk(json.dumps(whole, separators=(",", ":")).encode())


@cache
def _stream(chunks: int) -> list[bytes]:
    pieces = [_chunk({"role": "assistant", "content": ""})]
    pieces += [_chunk({"content": f" word{number % 100}"}) for number in range(chunks - 2)]
    return [*pieces, _chunk({}, "stop"), _http_chunk(b"[DONE]") + b"0\r\n\r\n"]


_WHOLE = json.dumps(ANSWER).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1]) if length else 0)
            model = _MODEL.search(body)
            kind, *numbers = (model[1].decode() if model else "answer").split("-")
            if kind == "chunks":
                writer.write(_STREAM_HEAD + b"".join(_stream(int(numbers[0]))))
            elif kind == "paced":
                writer.write(_STREAM_HEAD)
                for piece in _stream(int(numbers[0])):
                    writer.write(piece)
                    await asyncio.sleep(int(numbers[1]) / 1000)
            else:
                writer.write(_HEAD % len(_WHOLE) + _WHOLE)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", 0, limit=1 << 24, backlog=1024)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    # Runs until the parent process closes its standard input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextmanager
def running() -> Generator[str, None, None]:
    """Run the server; yield its base URL."""
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


if __name__ == "__main__":
    asyncio.run(_main())
