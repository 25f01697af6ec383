"""API keys and a pool of them: rotation, rest, fingerprints and masks.

Invariants:
- A key leaves this module only by `fetch_key` and `checkout`. Every repr, status and error shows its
  fingerprint or mask.
- No I/O; the clock and the randomness can be passed in. `openai2.keys.classify` decides what a failure means.
- A key is *ready*, *resting* (until a time) or *out* (until it succeeds or is added again). Nothing here
  waits; `wakes_in` returns how long the caller has to.
- One lock, held for microseconds (a thousand keys: one millisecond); under it run the clock and the
  randomness, and no other foreign code.

How a request uses a pool:

    key = pool.checkout(tried)
    if it is None: wait pool.wakes_in(tried) seconds and repeat, or raise the last error if that is None or
        too long
    send the request with the key
    answered: pool.report(key, Outcome(prompt_tokens=…, completion_tokens=…)), done
    failed: pool.report(key, verdict := classify_failure(…)), then
        verdict.another: tried.add(key), repeat
        verdict.retry: pause max(verdict.backoff, backoff_seconds(…)), repeat, a bounded number of times
        else raise

*tried* only grows. A key in it can be checked out again once the rest that its failure caused is over; a
refused one cannot.
"""

from __future__ import annotations

import hashlib
import math
import random as _random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Literal, NoReturn

import msgspec

from openai2.errors import BadInput, NoKey
from openai2.keys.classify import MAX_REST, Outcome, Reason, Verdict, backoff_seconds

__all__ = [
    "AKPool",
    "KeyStatus",
    "Outcome",
    "Verdict",
    "check_key",
    "fingerprint",
    "mask",
]

FIRST_REST = 1.0
"""Seconds that a key rests after its first 429 without a reset time; doubles with each further one."""

MOST_REST_UNASKED = 60.0
"""Seconds; the longest rest if the provider gives no reset time, since most limits count minutes."""

MOST_REST_ASKED = 8.0
"""Seconds; the longest rest if the reset times that the provider gives are too short to help."""

QUOTA_REST = 3600.0
"""Seconds that a key without quota rests at first; doubles up to `MAX_REST`."""

_TOLERANCE = 1e-9  # rounding errors of millions of turns are far smaller


def fingerprint(key: str) -> str:
    """Return 12 hexadecimal digits that identify *key* and do not reveal it."""
    return hashlib.sha256(b"openai2-key\0" + key.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def mask(key: str) -> str:
    """Return the first three and last four characters of *key*, or only stars if it is short."""
    if len(key) < 16:
        return "*" * len(key)
    # An unchecked key may hold control characters, and masks are printed on terminals.
    ends = "".join(char if "!" <= char <= "~" else "?" for char in key[:3] + key[-4:])
    return f"{ends[:3]}…{ends[3:]}"


def check_key(key: object) -> str:
    """Return *key* unchanged if it can be sent in a header.

    Raises BadInput (a ValueError) without the key in its text. Nothing is stripped, since a key that was
    pasted with a line end may lack more than shows.
    """
    return _check_key(key, "the API key")


def _check_key(key: object, which: str) -> str:
    if not isinstance(key, str):
        raise BadInput("expected a str as {which}, got {kind}", which=which, kind=type(key).__name__)
    if not key:
        raise BadInput("{which} is empty", which=which)
    for place, char in enumerate(key, 1):
        if not "!" <= char <= "~":
            raise BadInput(
                "{which} has {what} at character {place} of {length}: remove it",
                which=which,
                what=_describe(char),
                place=place,
                length=len(key),
            )
    return key


def _describe(char: str) -> str:
    if char in "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029":
        return "a line end"
    if char.isspace():
        return "a space"
    return "a control character" if char < " " or char == "\x7f" else "a character that is not ASCII"


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one key of a pool.

    - *fingerprint*, *masked*: which key;
    - *state*: `ready`, `resting`, or `out` of service;
    - *until*: seconds from now until a resting key is ready, else None;
    - *reason*: that of the verdict that put it out or to rest, else `''`;
    - *requests*: how often it was handed out; *failures*: how many of these failed, for any reason;
    - *prompt_tokens*, *completion_tokens*: the servers' counts;
    - *weight*: its share of the load, relative to the other keys'.
    """

    fingerprint: str
    masked: str
    state: Literal["ready", "resting", "out"]
    until: float | None
    reason: Reason | Literal[""]
    requests: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    weight: float


class _Slot:
    """The pool's record of one key."""

    __slots__ = (
        *("key", "weight", "lag", "turn", "out", "wakes", "woken", "reason", "limits", "quotas"),
        *("requests", "failures", "prompt_tokens", "completion_tokens"),
    )

    def __init__(self, key: str, weight: float) -> None:
        self.key = key
        self.weight = weight
        self.lag = 0.0  # by how many turns it is behind its exact share
        self.turn = 0  # number of its last turn; 0 if it had none
        self.requests = self.failures = self.prompt_tokens = self.completion_tokens = 0
        self.restore()

    def restore(self) -> None:
        """Put the key back in service and forget its failures."""
        self.out = False
        self.wakes = -math.inf  # on the pool's clock
        self.woken = False  # its last failure made it rest: afterwards it may be tried again
        self.reason: Reason | Literal[""] = ""
        self.limits = self.quotas = 0  # such failures in a row

    def __repr__(self) -> str:
        return f"<key {fingerprint(self.key)}>"


class AKPool:
    """A pool of API keys that share the load, shared by any number of chats, threads and tasks.

    - *keys*: one or more; a repeated key counts once, with its first weight. A literal `...` is ignored, as
      the tutorial writes it.
    - *weights*: each key's share of the load relative to the other keys', positive and finite: a sequence in
      the order of the keys, or a mapping from keys (a missing one weighs 1).

    Pools that hold the same key are independent. A pool cannot be pickled or copied.

    Raises BadInput (a ValueError) if there is no key, a key cannot be sent, or the weights do not fit.
    """

    # No __dict__, so that vars() shows nothing.
    __slots__ = ("__weakref__", "_clock", "_lock", "_number", "_slots", "_turn")

    def __init__(
        self,
        keys: Iterable[str | EllipsisType],
        *,
        weights: Sequence[float] | Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        if isinstance(keys, (str, bytes)):
            raise BadInput("AKPool expects a list of keys: for a single key write AKPool([key])")
        checked = [
            _check_key(key, f"key {number} of the pool")
            for number, key in enumerate((key for key in keys if key is not ...), 1)
        ]
        if not checked:
            raise BadInput("a pool needs at least one API key")
        self._clock = clock
        self._number = random
        # Reentrant: within any line below, the garbage collector may close a dropped stream, which reports
        # here.
        self._lock = threading.RLock()
        self._turn = 0
        # By fingerprint, so that its repr shows no key.
        self._slots: dict[str, _Slot] = {}
        for key, weight in zip(checked, _weights(checked, weights), strict=True):
            self._slots.setdefault(fingerprint(key), _Slot(key, weight))

    # --- handing out ---

    def fetch_key(self) -> str:
        """Return the next key in fair rotation, even if none is ready.

        Without a ready key it is the resting one that wakes first, else one that is out of service, in turn:
        the provider's answer then says what is wrong, and a repaired key comes back into service.
        Raises NoKey if every key was removed.
        """
        with self._lock:
            now = self._clock()
            slot = self._next(now, ())
            if slot is None:
                if not self._slots:
                    raise NoKey("the pool has no API key left: add one")
                slots = list(self._slots.values())
                slot = min(slots, key=lambda slot: (slot.out, slot.out or slot.wakes, slot.turn))
            return self._hand_out(slot)

    def checkout(self, tried: Collection[str] = ()) -> str | None:
        """Return the next ready key that is not among *tried*, in fair rotation; None if there is none.

        If all were tried, a key whose last failure made it rest, and whose rest is over, is returned again.
        The caller reports the outcome.
        """
        with self._lock:
            slot = self._next(self._clock(), tried)
            return None if slot is None else self._hand_out(slot)

    def wakes_in(self, tried: Collection[str] | None = None) -> float | None:
        """Return the seconds until the first resting key is ready; None if no key will be.

        0.0 if a rest is over already or, with *tried*, if another thread's success made a key ready that is
        not among *tried*. After this wait `checkout(tried)` returns a key, unless another request's failure
        makes it rest again.
        """
        with self._lock:
            now = self._clock()
            waits = (
                max(0.0, slot.wakes - now)
                for slot in list(self._slots.values())
                if not slot.out and (slot.woken or (tried is not None and slot.key not in tried))
            )
            return min(waits, default=None)

    def _hand_out(self, slot: _Slot) -> str:
        self._turn += 1
        slot.turn = self._turn
        slot.requests += 1
        return slot.key

    def _next(self, now: float, tried: Collection[str]) -> _Slot | None:
        """Return the ready key whose turn it is, and book the turn; None if there is none.

        Each key is behind or ahead of its exact share of the turns. Of those behind, the one that is due
        first is chosen: a turn is due before the share has grown by a whole turn. So no count is ever a
        whole turn off its exact share (smooth weighted round-robin can be 1.3 off). Equal weights give a
        plain rotation.
        """
        ready: list[_Slot] = []
        for slot in list(self._slots.values()):
            if slot.out or slot.wakes > now:
                slot.lag = 0.0  # a key that comes back starts even
            else:
                ready.append(slot)
        fresh = [slot for slot in ready if slot.key not in tried] if tried else ready
        choice = fresh or [slot for slot in ready if slot.woken]
        if not choice:
            return None
        # Divided by the heaviest first: a sum of huge weights overflows.
        heaviest = max(slot.weight for slot in ready)
        shares = [slot.weight / heaviest for slot in ready]
        whole = sum(shares)
        # The lag of keys that left or joined is spread over all, so that lags add up to zero.
        owed = sum(slot.lag for slot in ready)
        due: dict[_Slot, float] = {}
        for slot, share in zip(ready, shares, strict=True):
            share /= whole
            # A key skipped because of *tried* would lag without bound: count one turn at most.
            before = min(1.0, max(-1.0, slot.lag - owed * share))
            slot.lag = before + share
            due[slot] = (1.0 - before) / max(share, 1e-300)
        lagging = [slot for slot in choice if slot.lag > _TOLERANCE] or choice
        chosen = min(lagging, key=lambda slot: (round(due[slot], 9), slot.turn))
        chosen.lag -= 1.0
        return chosen

    # --- keeping the book ---

    def report(self, key: str, outcome: Outcome) -> None:
        """Record the outcome of an attempt with *key*: a `Verdict` if it failed, else an `Outcome`.

        An answer puts the key back in service. A key that was removed meanwhile is ignored.
        """
        name = fingerprint(key)
        with self._lock:
            slot = self._slots.get(name)
            if slot is None:
                return
            slot.prompt_tokens += _count(outcome.prompt_tokens)
            slot.completion_tokens += _count(outcome.completion_tokens)
            if not isinstance(outcome, Verdict):
                slot.restore()
                return
            slot.failures += 1
            now = self._clock()
            # A failure of a request that was sent before the rest began does not end the rest.
            slot.woken = outcome.rests or (slot.woken and slot.wakes > now)
            if outcome.out:
                slot.out = True
                slot.reason = outcome.reason
            elif outcome.rests:
                self._rest(slot, outcome, now)

    def _rest(self, slot: _Slot, verdict: Verdict, now: float) -> None:
        # Requests in flight together fail together: they count as one failure in a row.
        is_new = slot.wakes <= now
        asked = verdict.rest if verdict.rest is not None and verdict.rest > 0.0 else None
        if verdict.reason == "quota":
            slot.quotas += is_new or not slot.quotas
            # A gateway's general Retry-After of a second does not restore a quota.
            rest = max(QUOTA_REST * 2.0 ** min(slot.quotas - 1, 10), asked or 0.0)
        else:
            slot.limits += is_new or not slot.limits
            if asked is None:
                rest = self._growing(slot.limits - 1, MOST_REST_UNASKED)
            elif slot.limits < 3:
                rest = asked
            else:  # the given time was waited twice and did not help
                rest = max(asked, self._growing(slot.limits - 3, MOST_REST_ASKED))
        wakes = now + min(rest, MAX_REST)
        if wakes > slot.wakes:
            slot.wakes = wakes
            if not slot.out:
                slot.reason = verdict.reason

    def _growing(self, times: int, most: float) -> float:
        return backoff_seconds(times, first=FIRST_REST, most=most, random=self._number)

    def add(self, key: str, weight: float = 1.0) -> None:
        """Add *key*, or give a key of the pool a new weight and put it back in service.

        Raises BadInput (a ValueError) for a key that cannot be sent or a weight that is not positive.
        """
        name = fingerprint(check_key(key))
        weight = _weight(weight, "the weight")
        with self._lock:
            slot = self._slots.setdefault(name, _Slot(key, weight))
            slot.weight = weight
            slot.restore()

    def remove(self, key: str) -> None:
        """Remove *key* from the pool; requests that use it now go on.

        The last key can be removed too, so that a leaked key can be stopped. Raises BadInput (a ValueError)
        if it is not in the pool.
        """
        with self._lock:
            if self._slots.pop(fingerprint(key), None) is None:
                raise BadInput("there is no key {key} in the pool", key=fingerprint(key))

    def status(self) -> list[KeyStatus]:
        """Return the state of all keys, in the order in which they were added."""
        with self._lock:
            now = self._clock()
            return [_status(name, slot, now) for name, slot in self._slots.items()]

    def __len__(self) -> int:
        return len(self._slots)

    def __bool__(self) -> bool:
        # `pool or default` must not use another key because the last one was removed.
        return True

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and fingerprint(key) in self._slots

    def __repr__(self) -> str:
        return f"<AKPool of {len(self)} keys>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an AKPool cannot be pickled or copied, since that would copy its keys")


def _status(name: str, slot: _Slot, now: float) -> KeyStatus:
    resting = not slot.out and slot.wakes > now
    return KeyStatus(
        fingerprint=name,
        masked=mask(slot.key),
        state="out" if slot.out else "resting" if resting else "ready",
        until=slot.wakes - now if resting else None,
        reason=slot.reason if slot.out or resting else "",
        requests=slot.requests,
        failures=slot.failures,
        prompt_tokens=slot.prompt_tokens,
        completion_tokens=slot.completion_tokens,
        weight=slot.weight,
    )


def _count(tokens: object) -> int:
    """Return *tokens*, or 0 if it is not a plausible count; servers send null, and worse."""
    return tokens if type(tokens) is int and 0 <= tokens <= 10**12 else 0


def _weights(keys: Sequence[str], weights: Sequence[float] | Mapping[str, float] | None) -> list[float]:
    if weights is None:
        return [1.0] * len(keys)
    if isinstance(weights, Mapping):
        for key in weights.keys() - set(keys):
            raise BadInput("the weights name a key {key} that is not in the pool", key=fingerprint(key))
        return [_weight(weights.get(key, 1.0), f"the weight of key {fingerprint(key)}") for key in keys]
    if len(weights) != len(keys):
        raise BadInput("there are {keys} keys but {weights} weights", keys=len(keys), weights=len(weights))
    return [_weight(weight, f"weight {number} of the pool") for number, weight in enumerate(weights, 1)]


def _weight(weight: object, which: str) -> float:
    # The value is not shown: it may be a key in the wrong place.
    if isinstance(weight, (int, float)) and not isinstance(weight, bool):
        try:
            if 0.0 < (number := float(weight)) < math.inf:
                return number
        except OverflowError:  # an int too large for a float
            pass
    raise BadInput("expected a positive finite number as {which}", which=which)
