"""API keys, and a pool of them: rotation, rest, and what people may see of a key.

Rules:

- A key leaves this module only by `fetch_key` and `checkout`. Everything else, every repr, status and
  error, names it by its fingerprint or mask.
- No I/O; the clock and the randomness are handed in. Policy (what a failure means) is in
  `openai2.keys.classify`; the pool only keeps the book.
- A key is *ready*, *resting* (it comes back by itself) or *out* (it comes back when it succeeds, or is
  added again). Nothing here waits: the caller is told how long to.
- One lock, held for microseconds (a thousand keys: one millisecond); nothing foreign but the clock and
  the randomness runs under it.

How a request uses a pool:

    key = pool.checkout(tried)
    if it is None: wait pool.wakes_in(tried) seconds and go on, or raise the last error where that
        is None or too long
    ask with the key
    answered: pool.report(key, Outcome(prompt_tokens=…, completion_tokens=…)), done
    failed: pool.report(key, verdict := judge(…)), then
        verdict.another: tried.add(key), go on
        verdict.retry: pause max(verdict.backoff, backoff_seconds(…)), go on, a bounded number of times
        else raise

*tried* only ever grows. A key in it comes back by itself once the rest that it was sent to is over, so
that after a wait there is something to check out; one that was refused is not asked again.
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
"""Seconds that a key rests after its first 429 without a reset; it doubles with each further one."""

MOST_REST_UNASKED = 60.0
"""Seconds; where the provider gives no reset, limits are most often counted by the minute."""

MOST_REST_ASKED = 8.0
"""Seconds that a key rests where the provider names a shorter time, again and again, that does not help."""

QUOTA_REST = 3600.0
"""Seconds that a key with no money left rests at first; doubles up to `MAX_REST`."""

_SETTLED = 1e-9  # what floats add up to after millions of turns is far less


def fingerprint(key: str) -> str:
    """A short id for *key* that does not lead back to it: 12 hexadecimal digits, always the same."""
    return hashlib.sha256(b"openai2-key\0" + key.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def mask(key: str) -> str:
    """*key* as people may see it: its first three and last four characters, or only stars if it is short."""
    if len(key) < 16:
        return "*" * len(key)
    # A key that was not checked may hold anything, and a mask is printed to terminals.
    seen = "".join(char if "!" <= char <= "~" else "?" for char in key[:3] + key[-4:])
    return f"{seen[:3]}…{seen[3:]}"


def check_key(key: object) -> str:
    """*key* itself if it can be sent in a header as it stands.

    Raises BadInput (a ValueError) with one sentence that does not hold the key; nothing is mended
    silently, for a key that was pasted wrong may lack more than the line end that shows.
    """
    return _check_key(key, "the API key")


def _check_key(key: object, which: str) -> str:
    if not isinstance(key, str):
        raise BadInput("{which} is a str, not {kind}", which=which, kind=type(key).__name__)
    if not key:
        raise BadInput("{which} is empty", which=which)
    for place, char in enumerate(key, 1):
        if not "!" <= char <= "~":
            raise BadInput(
                "{which} has {what} at character {place} of {length}: give it without",
                which=which,
                what=_name_of(char),
                place=place,
                length=len(key),
            )
    return key


def _name_of(char: str) -> str:
    if char in "\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029":
        return "a line end"
    if char.isspace():
        return "a space"
    return "a control character" if char < " " or char == "\x7f" else "a character that is not ASCII"


class KeyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a pool as it stands now.

    - *fingerprint*, *masked*: which key;
    - *state*: `ready`, `resting`, or `out` of service;
    - *until*: seconds from now until a resting key is ready, else None;
    - *reason*: the word of the verdict that took it out or to rest, else `''`;
    - *requests*: how often it was handed out; *failures*: how many of these failed, by whosever fault;
    - *prompt_tokens*, *completion_tokens*: as the servers counted them;
    - *weight*: its share of the load, relative to the others'.
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
    """What the pool knows of one key."""

    __slots__ = (
        *("key", "weight", "lag", "turn", "out", "wakes", "woken", "reason", "limits", "quotas"),
        *("requests", "failures", "prompt_tokens", "completion_tokens"),
    )

    def __init__(self, key: str, weight: float) -> None:
        self.key = key
        self.weight = weight
        self.lag = 0.0  # turns that it is behind its exact share
        self.turn = 0  # when it last had a turn; 0 never
        self.requests = self.failures = self.prompt_tokens = self.completion_tokens = 0
        self.restore()

    def restore(self) -> None:
        """Back in service, with nothing held against it."""
        self.out = False
        self.wakes = -math.inf  # on the pool's clock
        self.woken = False  # its last try sent it to rest: once that is over it may be tried again
        self.reason: Reason | Literal[""] = ""
        self.limits = self.quotas = 0  # such failures in a row

    def __repr__(self) -> str:
        return f"<key {fingerprint(self.key)}>"


class AKPool:
    """A pool of API keys that share the load, shared by any number of chats, threads and tasks.

    *keys*: one or more; the same key twice counts once, with its first weight. *weights*: each key's share
    of the load relative to the others', positive and finite: one a key, in their order, or a mapping from
    keys (those that it leaves out weigh 1). A literal `...` among the keys is passed over, as the tutorial
    writes it.

    Pools that hold the same key do not know of each other. A pool is not pickled or copied.

    Raises BadInput (a ValueError) where there is no key, a key cannot be sent, or weights do not fit.
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
            raise BadInput("AKPool takes a list of keys; for a single one write AKPool([key])")
        checked = [
            _check_key(key, f"key {number} of the pool")
            for number, key in enumerate((key for key in keys if key is not ...), 1)
        ]
        if not checked:
            raise BadInput("a pool needs at least one API key")
        self._clock = clock
        self._number = random
        # Reentrant: the garbage collector may close somebody's dropped stream, which reports here, in
        # the middle of any of our lines.
        self._lock = threading.RLock()
        self._turn = 0
        # By fingerprint, so that no key stands in a repr of it.
        self._slots: dict[str, _Slot] = {}
        for key, weight in zip(checked, _weights(checked, weights), strict=True):
            self._slots.setdefault(fingerprint(key), _Slot(key, weight))

    # --- handing out ---

    def fetch_key(self) -> str:
        """The next key in fair rotation, whatever state the pool is in.

        A ready one if there is any, else the resting one that wakes first, else one that is out of
        service, each in its turn: the provider's own answer says best what is wrong with it, and a key
        that was mended comes back this way. Raises NoKey where every key was removed.
        """
        with self._lock:
            now = self._clock()
            slot = self._next(now, ())
            if slot is None:
                if not self._slots:
                    raise NoKey("the pool holds no API key any more; add one")
                slots = list(self._slots.values())
                slot = min(slots, key=lambda slot: (slot.out, slot.out or slot.wakes, slot.turn))
            return self._hand_out(slot)

    def checkout(self, tried: Collection[str] = ()) -> str | None:
        """The next ready key that is not among *tried*, in fair rotation; None where there is none.

        A key of *tried* counts as untried once a rest that its last try brought is over, after those
        that are. Report what came of it.
        """
        with self._lock:
            slot = self._next(self._clock(), tried)
            return None if slot is None else self._hand_out(slot)

    def wakes_in(self, tried: Collection[str] | None = None) -> float | None:
        """Seconds until waiting has helped: until the first resting key wakes; None where none ever will.

        0.0 where a rest is over already or, with *tried* given, where another thread's success has made
        a key ready that is not among *tried*. So after `checkout(tried)` gave None and this many seconds
        have passed, `checkout(tried)` gives a key, unless somebody else's failure sent it to rest again.
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
        """Whose turn it is among the ready keys; its turn is booked.

        Each key lags behind its exact share of the turns or is ahead of it. Of those that lag, the one
        that is due first is chosen (a turn is due before the share has grown by a whole one). With keys
        that stay, no count is ever a whole turn off its exact share; plain smooth weighted round-robin,
        which always takes the one furthest behind, can be 1.3 off with a few heavy keys among light ones.
        Equal weights give a plain rotation.
        """
        ready: list[_Slot] = []
        for slot in list(self._slots.values()):
            if slot.out or slot.wakes > now:
                slot.lag = 0.0  # who comes back is owed nothing, and owes nothing
            else:
                ready.append(slot)
        fresh = [slot for slot in ready if slot.key not in tried] if tried else ready
        choice = fresh or [slot for slot in ready if slot.woken]
        if not choice:
            return None
        # Shares of the heaviest first: a sum of huge weights is no float.
        heaviest = max(slot.weight for slot in ready)
        shares = [slot.weight / heaviest for slot in ready]
        whole = sum(shares)
        # What those who left or joined were owed is spread over all, so that lags add up to nothing.
        owed = sum(slot.lag for slot in ready)
        due: dict[_Slot, float] = {}
        for slot, share in zip(ready, shares, strict=True):
            share /= whole
            # Where *tried* keeps a key from its turns, it may lag without end: it is owed one.
            before = min(1.0, max(-1.0, slot.lag - owed * share))
            slot.lag = before + share
            due[slot] = (1.0 - before) / max(share, 1e-300)
        lagging = [slot for slot in choice if slot.lag > _SETTLED] or choice
        chosen = min(lagging, key=lambda slot: (round(due[slot], 9), slot.turn))
        chosen.lag -= 1.0
        return chosen

    # --- keeping the book ---

    def report(self, key: str, outcome: Outcome) -> None:
        """Note what came of a try with *key*: a `Verdict` where it failed, else a plain `Outcome`.

        An answer puts the key back in service whatever was held against it. A key that was removed
        meanwhile is nobody's business any more. Raises nothing.
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
            # While it rests, the failure of a request that was under way before changes nothing in that.
            slot.woken = outcome.rests or (slot.woken and slot.wakes > now)
            if outcome.out:
                slot.out = True
                slot.reason = outcome.reason
            elif outcome.rests:
                self._rest(slot, outcome, now)

    def _rest(self, slot: _Slot, verdict: Verdict, now: float) -> None:
        # Requests that were under way together fail together: they are one failure in a row.
        again = slot.wakes <= now
        asked = verdict.rest if verdict.rest is not None and verdict.rest > 0.0 else None
        if verdict.reason == "quota":
            slot.quotas += again or not slot.quotas
            # A gateway's general Retry-After of a second does not fill an account.
            rest = max(QUOTA_REST * 2.0 ** min(slot.quotas - 1, 10), asked or 0.0)
        else:
            slot.limits += again or not slot.limits
            if asked is None:
                rest = self._growing(slot.limits - 1, MOST_REST_UNASKED)
            elif slot.limits < 3:
                rest = asked
            else:  # what it asked for was obeyed, twice, and did not help: no hammering
                rest = max(asked, self._growing(slot.limits - 3, MOST_REST_ASKED))
        wakes = now + min(rest, MAX_REST)
        if wakes > slot.wakes:
            slot.wakes = wakes
            if not slot.out:
                slot.reason = verdict.reason

    def _growing(self, times: int, most: float) -> float:
        return backoff_seconds(times, first=FIRST_REST, most=most, random=self._number)

    def add(self, key: str, weight: float = 1.0) -> None:
        """Add *key*. One that is there already gets the new weight and is put back in service.

        Raises BadInput (a ValueError) for a key that cannot be sent or a weight that is not positive.
        """
        name = fingerprint(check_key(key))
        weight = _weight(weight, "the weight")
        with self._lock:
            slot = self._slots.setdefault(name, _Slot(key, weight))
            slot.weight = weight
            slot.restore()

    def remove(self, key: str) -> None:
        """Take *key* out of the pool; requests that use it now are not disturbed.

        The last one may go too: whatever was leaked must be stoppable. Raises BadInput (a ValueError)
        where it is not in the pool.
        """
        with self._lock:
            if self._slots.pop(fingerprint(key), None) is None:
                raise BadInput("there is no key {key} in the pool", key=fingerprint(key))

    def status(self) -> list[KeyStatus]:
        """All keys as they stand now, in the order in which they were added."""
        with self._lock:
            now = self._clock()
            return [_status(name, slot, now) for name, slot in self._slots.items()]

    def __len__(self) -> int:
        return len(self._slots)

    def __bool__(self) -> bool:
        # `pool or default` must not quietly pay with another key because the last one was removed.
        return True

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and fingerprint(key) in self._slots

    def __repr__(self) -> str:
        return f"<AKPool of {len(self)} keys>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an AKPool is not pickled or copied: its keys would travel with it")


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
    """A server's count of tokens, 0 where it is none; servers send null, and worse."""
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
    # What stands there instead is not shown: it may be a key in the wrong place.
    if isinstance(weight, (int, float)) and not isinstance(weight, bool):
        try:
            if 0.0 < (number := float(weight)) < math.inf:
                return number
        except OverflowError:  # an int that is no float
            pass
    raise BadInput("{which} is not a positive finite number", which=which)
