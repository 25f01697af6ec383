"""Events: one frozen struct for each kind of fact about a conversation, and the recorded event.

Invariants:
- An event records what happened, never how to compute it again; its name is in the past tense.
- Its tag (`type`) does not depend on the name of the class.
- Events evolve by optional fields; the meaning of a field never changes.
- No I/O, no clock, no new ids.

Numbers in events: a *version* is an event's place in its own stream: 1, 2, 3 … A *message id* is the version
of the event that added the message. A fork counts ids on from its parent's last one, so that an inherited
message keeps its id and ids never clash. A *span* `(first, last)` is a stretch of the view at that version:
from the message with the id *first* to the message with the id *last*.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from openai2.errors import DamagedStore

Span = tuple[int, int]

if TYPE_CHECKING:
    RawOrNone = msgspec.Raw | None
else:
    RawOrNone = msgspec.Raw  # msgspec would decode "Raw | None" as null only


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The base of all events; *type* is the tag under which events of a class are stored.

    *replays*: in a replay, the id of the source's event that this one repeats.
    """

    type: ClassVar[str] = ""
    replays: int | None = None

    def __repr__(self) -> str:
        return _described(self)


class Created(Event, frozen=True, kw_only=True):
    """A conversation began; *name* is its name or None."""

    type: ClassVar[str] = "created"
    name: str | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a replay repeats, and what it changes; equal values mean the same replay.

    *source* is the conversation whose events after the id *start* are repeated. None, or no options, means
    unchanged. *options* are those of the API, as recorded.
    """

    source: str
    start: int
    model: str | None = None
    system: str | None = None
    options: dict[str, Any] = {}


class Forked(Event, frozen=True, kw_only=True):
    """A conversation began as a fork.

    It shares the first *version* events of *parent*. *base* is the id of the last of them, so the event at
    version v of this stream has the id base + v. *reason* is None for a plain fork, else a word such as
    "retry", "edit", "replay" or "diverged". *replay*: what it replays; its parent is the source or one of
    its ancestors.
    """

    type: ClassVar[str] = "forked"
    parent: str
    version: int
    base: int
    name: str | None = None
    reason: str | None = None
    replay: Replay | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The metadata of a model's answer, for audits.

    - *seconds*: from sending to the last byte;
    - *usage*: the API's count of tokens;
    - *key*: the fingerprint of the key that was used, never the key;
    - *attempts*: the failed attempts before this one;
    - *choices*: the further choices of a request with `n > 1`, verbatim;
    - *stopped*: True if the caller left early and the answer is incomplete;
    - *seen*: the version of the view that was answered, if the view changed before the answer came.
    """

    model: str | None = None
    id: str | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    seconds: float | None = None
    key: str | None = None
    attempts: list[dict[str, Any]] = []
    choices: list[msgspec.Raw] = []
    logprobs: RawOrNone = None
    reasoning: str | None = None
    stopped: bool = False
    seen: int | None = None

    def __repr__(self) -> str:
        return _described(self)


class MessageAdded(Event, frozen=True, kw_only=True):
    """A message was recorded.

    - Without *request* it joined the view at once.
    - With *request* (an id) but no *answer* it is the question of that request, and not in the view yet.
    - With *answer* it is the model's answer: first the messages of *question* joined the view, with the
      kinds in *kinds* (None: all user messages), then this one. *remarks* are the waiting remarks of a group
      chat that the question used.
    - They joined the view right behind the message with the id *after*; None: at its end.
    - If *joined* is False, the answer is on record only, because its place in the view was gone or taken.
    """

    type: ClassVar[str] = "message_added"
    message: msgspec.Raw
    request: int | None = None
    question: list[int] = []
    kinds: str | None = None
    remarks: list[int] = []
    answer: Answer | None = None
    after: int | None = None
    joined: bool = True

    @property
    def joins_view(self) -> bool:
        """True unless it is a question, which joins with its answer, or an answer that found no place."""
        return self.joined and (self.request is None or self.answer is not None)


class Pinned(Event, frozen=True, kw_only=True):
    """These messages were pinned: truncation does not remove them."""

    type: ClassVar[str] = "pinned"
    messages: list[int]


class Unpinned(Event, frozen=True, kw_only=True):
    """These messages are no longer pinned."""

    type: ClassVar[str] = "unpinned"
    messages: list[int]


class RolledBack(Event, frozen=True, kw_only=True):
    """These *spans* (*messages* messages, *rounds* whole rounds) were removed from the view.

    *reason* "retry": the answer of *request* replaced an old one. *remarks* are the remarks of a group chat
    that the removed questions had used; they wait for the next request again.
    """

    type: ClassVar[str] = "rolled_back"
    spans: list[Span]
    messages: int
    rounds: int = 0
    reason: str | None = None
    request: int | None = None
    remarks: list[int] = []


class Truncated(Event, frozen=True, kw_only=True):
    """The *limit* removed these *spans* (*messages* messages) from the view, because of *request*."""

    type: ClassVar[str] = "truncated"
    spans: list[Span]
    messages: int
    limit: int
    request: int | None = None


class Restored(Event, frozen=True, kw_only=True):
    """The view became again what it was at *version* of this stream.

    *cause* is "undo" or "redo" if a step was undone or redone. *redo*: the version that a redo leads to.
    """

    type: ClassVar[str] = "restored"
    version: int
    cause: str | None = None
    redo: int | None = None


class RequestStarted(Event, frozen=True, kw_only=True):
    """A request to the model is about to be sent.

    - *view*: the version of the view that is sent; *limit*: the MsgMaxCount;
    - *options*: those of the API, never headers or keys;
    - *question*: the ids of recorded messages that are asked again;
    - *without*: the spans of the view that are left out, as a *retry* does;
    - *after*: the id of the message in the view that the answer belongs behind; None: at the view's end.
    """

    type: ClassVar[str] = "request_started"
    view: int
    model: str | None = None
    stream: bool = False
    limit: int | None = None
    options: dict[str, Any] = {}
    question: list[int] = []
    without: list[Span] = []
    retry: bool = False
    after: int | None = None


class RequestStopped(Event, frozen=True, kw_only=True):
    """A request was stopped by its caller, or interrupted by a crash and its answer kept.

    *kept*: the incomplete answer was recorded as a message. *reason*: "caller", or "recovered" after a crash.
    *reasoning*: the model's reasoning, if the answer had not begun.
    """

    type: ClassVar[str] = "request_stopped"
    request: int
    reason: str = "caller"
    kept: bool = False
    key: str | None = None
    attempts: list[dict[str, Any]] = []
    seconds: float | None = None
    reasoning: str | None = None


class RequestFailed(Event, frozen=True, kw_only=True):
    """A request failed; the view stayed as it was.

    *error* is the class of the exception, *status* and *code* are the API's, *message* is its text with every
    key masked. *partial* is the incomplete answer.
    """

    type: ClassVar[str] = "request_failed"
    request: int
    error: str
    message: str = ""
    status: int | None = None
    code: str | None = None
    partial: RawOrNone = None
    key: str | None = None
    attempts: list[dict[str, Any]] = []
    seconds: float | None = None


class Configured(Event, frozen=True, kw_only=True):
    """The command's settings for this conversation changed; a field that is None did not.

    A *limit* of 0 means that there is no limit any more.
    """

    type: ClassVar[str] = "configured"
    model: str | None = None
    limit: int | None = None


class Renamed(Event, frozen=True, kw_only=True):
    """The conversation's name changed; None removes it."""

    type: ClassVar[str] = "renamed"
    name: str | None = None


class Archived(Event, frozen=True, kw_only=True):
    """The conversation was archived: lists leave it out."""

    type: ClassVar[str] = "archived"


class Unarchived(Event, frozen=True, kw_only=True):
    """The conversation is listed again."""

    type: ClassVar[str] = "unarchived"


class Deleted(Event, frozen=True, kw_only=True):
    """All content of the conversation was removed on request; no event follows."""

    type: ClassVar[str] = "deleted"


class Redacted(Event, frozen=True, kw_only=True):
    """The content of the event at *version* of this stream was removed from the file for good.

    *digest* is the SHA-256 (hex) of its data, so that the chain can still be verified. *left* is its data
    without the content. *reason* is the text that the user gave.
    """

    type: ClassVar[str] = "redacted"
    version: int
    digest: str
    left: msgspec.Raw
    reason: str | None = None


class RoleSet(Event, frozen=True, kw_only=True):
    """A group chat's role was described; a *description* of None removes the role."""

    type: ClassVar[str] = "role_set"
    name: str
    description: str | None = None


class RemarkAdded(Event, frozen=True, kw_only=True):
    """A remark was made in a group chat; it waits for the next request."""

    type: ClassVar[str] = "remark_added"
    speaker: str
    audiences: list[str]
    remark: str


def _described(struct: msgspec.Struct) -> str:
    """Return a struct as text: its fields that are not at their default, with JSON as readable text."""
    fields = [(field, getattr(struct, field.name)) for field in msgspec.structs.fields(struct)]
    shown = [
        f"{field.name}={_readable(value)}"
        for field, value in fields
        if field.required or (value != field.default and value not in ([], {}))
    ]
    return f"{type(struct).__name__}({', '.join(shown)})"


def _readable(value: object) -> str:
    if isinstance(value, (msgspec.Raw, bytes)):
        return bytes(value).decode("utf-8", "backslashreplace")
    return repr(value)


def _subclasses(kind: type[Event]) -> Iterator[type[Event]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


TYPES: dict[str, type[Event]] = {kind.type: kind for kind in _subclasses(Event)}

_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Event]] = {}


def encode(event: Event) -> bytes:
    """Return the event's data: its fields as UTF-8 JSON, without the tag."""
    return _encoder.encode(event)


def decode(tag: str, data: bytes | str) -> Event:
    """Return the event that was stored as *data* under *tag*.

    Raises msgspec.ValidationError, or its base DecodeError, if the data does not fit the tag.
    """
    known = _decoders.get(tag)
    return (known or decoder(tag)).decode(data)


def decoder(tag: str) -> msgspec.json.Decoder[Event]:
    """Return the decoder of that tag. Raises msgspec.ValidationError if the tag is unknown."""
    known = _decoders.get(tag)
    if known is None:  # made on first use: all of them take 2 ms
        if tag not in TYPES:
            raise msgspec.ValidationError(f"unknown type of event: {tag!r}")
        known = _decoders[tag] = msgspec.json.Decoder(TYPES[tag])
    return known


#: What decoding damaged data raises.
DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Recorded(msgspec.Struct, frozen=True, weakref=True):
    """An event as recorded in the log.

    - *position*: its place in the whole store;
    - *batch*: the version of the first event that was appended in the same transaction;
    - *time*: UTC in ISO 8601 with microseconds;
    - *json*: its data as stored; empty if it was redacted, and *left* is then the rest of the data;
    - *hash*: its link of the chain in hex, which commits to all earlier events.
    """

    conversation: str
    version: int
    position: int
    batch: int
    type: str
    time: str
    json: bytes
    hash: str
    left: bytes = b""

    def __repr__(self) -> str:
        return _described(self)

    @property
    def data(self) -> dict[str, Any]:
        """The event's fields as a new dict. Raises DamagedStore."""
        try:
            fields: dict[str, Any] = msgspec.json.decode(self.json or self.left)
        except DECODE_ERRORS as error:
            raise self._damaged(error) from error
        return fields

    @property
    def event(self) -> Event:
        """The event as a struct. Raises DamagedStore."""
        try:
            return decode(self.type, self.json or self.left)
        except DECODE_ERRORS as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DamagedStore:
        return DamagedStore(
            "version {version} of conversation {conversation} is damaged: {reason}",
            conversation=self.conversation,
            version=self.version,
            reason=str(error),
        )
