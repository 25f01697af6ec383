"""The vocabulary: one frozen struct for each fact that can happen to a conversation.

Rules:
- An event is named in the past tense and records what happened, never how to work it out again.
- Its tag (`type`) is a word of its own, so that renaming a class breaks no log.
- Events evolve by gaining optional fields; a field's meaning never changes.
- Nothing here does I/O, knows the time, or makes up an id: those come in from outside.

Numbers in events. A *version* is an event's place in its own stream: 1, 2, 3 … A *message id* is the
version of the event that added the message; in a fork, counting goes on from the parent's, so a
message that the fork inherited keeps its id, and ids never clash. A *span* `(first, last)` names a
stretch of the view as it stood: from the message with the id *first* to the one with the id *last*.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

Span = tuple[int, int]

if TYPE_CHECKING:
    RawOrNone = msgspec.Raw | None
else:
    RawOrNone = msgspec.Raw  # which is None by default: msgspec takes "Raw | None" for null alone


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What all events share: `type`, the tag under which an event of this class is stored.

    *replays*, in a replay: the number (see above) of the source's event that this one does again.
    """

    type: ClassVar[str] = ""
    replays: int | None = None


class Created(Event, frozen=True, kw_only=True):
    """A conversation began. *name* is None where it has none."""

    type: ClassVar[str] = "created"
    name: str | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a replay replays, and what is other than it was: the same words mean the same replay.

    *source* is the conversation whose events after the number *start* happen again. None, or no options,
    means as it was. *options* are those of the API, as they go on record.
    """

    source: str
    start: int
    model: str | None = None
    system: str | None = None
    options: dict[str, Any] = {}


class Forked(Event, frozen=True, kw_only=True):
    """A conversation began as a fork.

    It shares the first *version* events of *parent*; *base* is the message id of the last of them, so
    this stream's own event number v has the id base + v. *reason* says why: None for a plain fork,
    else a word such as "retry", "edit", "replay" or "diverged". *replay*: what it is a replay of; the
    parent is then the source or one of its ancestors.
    """

    type: ClassVar[str] = "forked"
    parent: str
    version: int
    base: int
    name: str | None = None
    reason: str | None = None
    replay: Replay | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an auditor wants to know about a model's answer.

    *key* is the fingerprint of the key that paid, never the key. *seconds* is the time from sending to
    the last byte. *usage* is the API's own count of tokens. *attempts* are the tries that failed before
    this one. *choices* are the further choices of a request with `n > 1`, verbatim. *stopped*: the
    caller left early and this is what had come. *seen*: the version of the view that was answered, where
    the view had gone on by the time that the answer came.
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


class MessageAdded(Event, frozen=True, kw_only=True):
    """A message was put on record.

    Without *request* it joined the view at once. With *request* but no *answer* it is the question of
    that request (its id) and does not stand in the view yet. With *answer* it is what the model
    answered: the messages named in *question*, with the kinds in *kinds* (all user messages where
    None), joined the view, then this one did. *remarks* are the pending remarks of a group chat that
    went into the question.
    """

    type: ClassVar[str] = "message_added"
    message: msgspec.Raw
    request: int | None = None
    question: list[int] = []
    kinds: str | None = None
    remarks: list[int] = []
    answer: Answer | None = None


class Pinned(Event, frozen=True, kw_only=True):
    """These messages were pinned: truncation leaves them alone."""

    type: ClassVar[str] = "pinned"
    messages: list[int]


class Unpinned(Event, frozen=True, kw_only=True):
    """These messages are no longer pinned."""

    type: ClassVar[str] = "unpinned"
    messages: list[int]


class RolledBack(Event, frozen=True, kw_only=True):
    """A person took these *spans* (*messages* in number, *rounds* whole rounds) out of the view.

    *reason* "retry": an old answer made way for a new one, that of *request*.
    """

    type: ClassVar[str] = "rolled_back"
    spans: list[Span]
    messages: int
    rounds: int = 0
    reason: str | None = None
    request: int | None = None


class Truncated(Event, frozen=True, kw_only=True):
    """The *limit* took these *spans* (*messages* in number) out of the view, for *request*."""

    type: ClassVar[str] = "truncated"
    spans: list[Span]
    messages: int
    limit: int
    request: int | None = None


class Restored(Event, frozen=True, kw_only=True):
    """The view became again what it was at *version* of this stream.

    *cause* is "undo" or "redo" where a step was undone or redone. *redo*: the version that a redo from
    here leads to.
    """

    type: ClassVar[str] = "restored"
    version: int
    cause: str | None = None
    redo: int | None = None


class RequestStarted(Event, frozen=True, kw_only=True):
    """The model is about to be asked.

    *view* is the version of the view that was sent, *options* those of the API (never headers, never
    keys), *limit* the MsgMaxCount in force. *question* are the ids of messages already on record that
    are asked again; *without* the spans of the view that were left out for it, as a *retry* does.
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


class RequestStopped(Event, frozen=True, kw_only=True):
    """A request was stopped by its caller, or cut off and its answer kept.

    *kept*: what had come joined the view. *reason*: "caller", or "recovered" after a crash.
    *reasoning* is what the model had thought, where it had not begun to answer.
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

    *error* is the class of the exception, *status* and *code* what the API said, *message* its sentence
    with every key masked. *partial* is what had come of the answer.
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
    """The command's settings for this conversation; a field that is None was not changed."""

    type: ClassVar[str] = "configured"
    model: str | None = None
    limit: int | None = None


class Renamed(Event, frozen=True, kw_only=True):
    """The conversation's name changed; None takes it away."""

    type: ClassVar[str] = "renamed"
    name: str | None = None


class Archived(Event, frozen=True, kw_only=True):
    """The conversation was put away: lists leave it out."""

    type: ClassVar[str] = "archived"


class Unarchived(Event, frozen=True, kw_only=True):
    """The conversation was taken out again."""

    type: ClassVar[str] = "unarchived"


class Deleted(Event, frozen=True, kw_only=True):
    """All content of the conversation was removed, on request: nothing comes after this."""

    type: ClassVar[str] = "deleted"


class Redacted(Event, frozen=True, kw_only=True):
    """The content of the event at *version* of this stream was removed from the file for good.

    *digest* is the SHA-256 (hex) of its data, so that the chain can still be verified, and *left* its
    data without the content. *reason* is the person's own word for it.
    """

    type: ClassVar[str] = "redacted"
    version: int
    digest: str
    left: msgspec.Raw
    reason: str | None = None


class RoleSet(Event, frozen=True, kw_only=True):
    """A group chat's role was described; a *description* of None takes the role away."""

    type: ClassVar[str] = "role_set"
    name: str
    description: str | None = None


class RemarkAdded(Event, frozen=True, kw_only=True):
    """Somebody in a group chat said something; it waits for the next request."""

    type: ClassVar[str] = "remark_added"
    speaker: str
    audiences: list[str]
    remark: str


def _subclasses(kind: type[Event]) -> Iterator[type[Event]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)


TYPES: dict[str, type[Event]] = {kind.type: kind for kind in _subclasses(Event)}

_encoder = msgspec.json.Encoder()
_decoders: dict[str, msgspec.json.Decoder[Event]] = {}


def encode(event: Event) -> bytes:
    """The event's data: its fields as UTF-8 JSON, without the tag."""
    return _encoder.encode(event)


def decode(tag: str, data: bytes | str) -> Event:
    """The event that was stored as *data* under *tag*.

    Raises msgspec.ValidationError (or its base DecodeError) where the data is no such event.
    """
    known = _decoders.get(tag)
    return (known or decoder(tag)).decode(data)


def decoder(tag: str) -> msgspec.json.Decoder[Event]:
    """What decodes events of that type. Raises msgspec.ValidationError where there is none."""
    known = _decoders.get(tag)
    if known is None:  # each is made when it is first wanted: all of them take 2 ms
        if tag not in TYPES:
            raise msgspec.ValidationError(f"{tag!r} is no type of event")
        known = _decoders[tag] = msgspec.json.Decoder(TYPES[tag])
    return known


class Recorded(msgspec.Struct, frozen=True, weakref=True):
    """An event as it stands in the log.

    *position* is its place in the whole store, *batch* the version of the first event that was appended
    in the same transaction, *time* UTC in ISO 8601 with microseconds, *json* its data as stored,
    *hash* its link of the chain in hex: it commits to all that came before. Where a redaction took the
    data, *json* is empty and *left* is what the redaction left of it.
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

    @property
    def data(self) -> dict[str, Any]:
        """The event's fields as a dict of one's own."""
        fields: dict[str, Any] = msgspec.json.decode(self.json or self.left)
        return fields

    @property
    def event(self) -> Event:
        """The event as a struct."""
        return decode(self.type, self.json or self.left)
