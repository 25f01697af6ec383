"""Deadlines of a request, on the monotonic clock.

Guarantees:
- In an event loop, no wait for the server goes past the deadline, whatever the server sends.
- In a thread, the deadline is checked before each wait, and between the pieces of a body. A wait for
  connecting, for sending, for the next bytes of the head or for the next bytes of the body is never longer
  than the time that was left when that phase of the request began, rounded up to a tenth of a second. So a
  request that stalls ends by its deadline, and one whose body dribbles ends with the piece after it.
- Not guaranteed in a thread: an end for a server that dribbles its head byte by byte. Through `create`, also
  for one that dribbles a whole answer, or what is not a chunk of a stream. Each wait is bounded, their sum is
  not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: Seconds that the SDK's timeouts are rounded up to: it sends the timeout in a header.
_STEP = 0.1


def seconds_left(until: float | None) -> float | None:
    """Return the seconds until the deadline; None without one. Raises TimeoutError when it has passed."""
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time for this request is over")
    return left


def shorten(timeout: Any, until: float | None) -> Any:
    """Return the SDK's *timeout* with no phase longer than what is left. Raises TimeoutError."""
    left = seconds_left(until)
    if left is None:
        return timeout
    import httpx2

    most = math.ceil(left / _STEP) * _STEP
    phases = timeout.as_dict() if hasattr(timeout, "as_dict") else httpx2.Timeout(timeout).as_dict()
    return httpx2.Timeout(
        **{name: most if value is None else min(value, most) for name, value in phases.items()}
    )


async def within(until: float | None, wait: Callable[[], Awaitable[T]]) -> T:
    """Return what *wait* returns. Raises TimeoutError when the deadline passes first."""
    left = seconds_left(until)
    if left is None:
        return await wait()
    import anyio

    with anyio.fail_after(left):
        return await wait()
