"""Remove content for good: one message that holds a secret, or a whole conversation.

A redaction appends a `redacted` event, with the digest of the removed data and what is left of it, and then
empties the event. The hash covers the digest only, so the chain stays verifiable.

Invariants:
- What is left keeps its shape: role and kind, ids of tool calls, model, tokens, times, fingerprints of keys.
  Texts, reasoning, arguments, alternatives and log probabilities are removed.
- A message belongs to the stream that added it. Redacting it in a fork redacts it for every stream that
  shares it.
- `delete` redacts every event of a stream and appends `deleted`: the stream is in no list, and nothing can
  be appended to it. It is refused if the stream has forks.
- The database is vacuumed afterwards. The report says if a reader prevents that (`clean`).
- A draft without a living writer loses the removed texts. A draft in progress is reported (`under_way`).
"""

from __future__ import annotations

import msgspec

from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.decisions import check_text
from openai2.core.typeguards import is_list, is_mapping
from openai2.errors import Refused, UnknownConversation
from openai2.history import drafts
from openai2.history.lineage import Lineage
from openai2.readmodels import list_update
from openai2.redaction import copies
from openai2.store import Reader, Store, Transaction, erase
from openai2.store.codec import digest
from openai2.store.transaction import LISTED_TYPES

#: What replaces a removed text.
GONE = "[redacted]"

#: What a redaction leaves in the file, in words.
REMAINS = (
    "that there was an event, its type, time and place in its conversation",
    "the SHA-256 of its data, which can confirm a guess of a short text",
    "roles, names of group roles, models, counts of tokens, durations, fingerprints of keys",
)

_Content = list[tuple[ev.Recorded, ev.Event]]  # events with content, and what is left of each


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, and what remains.

    - *versions* of *conversation* were emptied; *shared_by* are the forks that share them.
    - *also_in* names the (conversation, version) of other events that hold a removed text, or a word of it
      that looks like a key, a long number or an address (see `copies`).
    - *under_way* names the (conversation, request) of requests in progress whose answer may quote the text,
      or does already.
    - *clean* is True if no byte of it is left in the store's files. It is False if a reader in another
      process or thread prevented that; `Engine.scrub` tries again.
    """

    conversation: str
    versions: list[int]
    shared_by: list[str]
    also_in: list[tuple[str, int]]
    under_way: list[tuple[str, int]]
    remains: tuple[str, ...]
    clean: bool


def texts_of(record: ev.Recorded) -> list[str]:
    """Return the texts that a redaction of this event would remove."""
    left = left_of(record.event) if record.json else None
    return [] if left is None else copies.lost_texts(record.json, ev.encode(left))


def left_of(event: ev.Event) -> ev.Event | None:
    """Return the event without its content; None if it has no content."""
    left: ev.Event | None = None
    if isinstance(event, ev.MessageAdded):
        raw = msgspec.Raw(msgspec.json.encode(_shell(msg.decode(bytes(event.message)))))
        left = msgspec.structs.replace(event, message=raw)
        if event.answer is not None:
            bare = msgspec.structs.replace(
                event.answer, choices=[], logprobs=None, reasoning=None, attempts=_bare(event.answer.attempts)
            )
            left = msgspec.structs.replace(left, answer=bare)
    elif isinstance(event, ev.RequestStarted):
        left = msgspec.structs.replace(event, options={})
    elif isinstance(event, ev.RequestFailed):
        left = msgspec.structs.replace(event, message="", partial=None, attempts=_bare(event.attempts))
    elif isinstance(event, ev.RequestStopped):
        left = msgspec.structs.replace(event, reasoning=None, attempts=_bare(event.attempts))
    elif isinstance(event, ev.RoleSet) and event.description is not None:
        left = msgspec.structs.replace(event, description=GONE)
    elif isinstance(event, ev.RemarkAdded):
        left = msgspec.structs.replace(event, remark=GONE)
    elif isinstance(event, ev.Forked):
        replay = event.replay and msgspec.structs.replace(event.replay, system=None, options={})
        left = msgspec.structs.replace(event, name=None, replay=replay)
    elif isinstance(event, (ev.Created, ev.Renamed)):
        left = msgspec.structs.replace(event, name=None)
    return left if left is not None and ev.encode(left) != ev.encode(event) else None


def _shell(message: msg.Message) -> msg.Message:
    """Return a message of the same kind without its content."""
    shell: msg.Message = {"role": message["role"], "content": GONE}
    if "tool_call_id" in message:
        shell["tool_call_id"] = message["tool_call_id"]
    if msg.kind(message) == msg.CALLS:
        call = {"type": "function", "function": {"name": GONE, "arguments": "{}"}}
        recorded = message.get("tool_calls")
        calls = [item for item in recorded if is_mapping(item)] if is_list(recorded) else []
        shell["tool_calls"] = [{"id": item.get("id"), **call} for item in calls] or [call]
    return shell


def _bare(attempts: list[dict[str, object]]) -> list[dict[str, object]]:
    """Return failed attempts without the server's message, which may quote the request."""
    return [{key: value for key, value in attempt.items() if key != "message"} for attempt in attempts]


def redact(store: Store, conversation: str, number: int, reason: str | None = None) -> Removed:
    """Remove the content of the event with the id *number* of a conversation.

    Raises UnknownConversation, BadInput, Refused if there is no such event, if it has no content, or if the
    *reason* quotes its content.
    """
    check_text(reason, "a reason")

    def job(tx: Transaction) -> Removed:
        _check_exists(tx, conversation)
        owner, version = Lineage.read(tx, conversation).place(number)
        record = next(tx.events(owner, after=version - 1, upto=version), None) if version > 0 else None
        if record is None:
            raise Refused(
                "conversation {conversation} has no message {message}",
                conversation=conversation,
                message=number,
            )
        left = None if not record.json else left_of(record.event)
        if left is None:
            raise Refused(
                "version {version} of conversation {conversation} has no content to remove",
                conversation=owner,
                version=version,
            )
        patterns = copies.search_patterns(texts_of(record))
        _check_reason(reason, patterns)
        stored = copies.as_stored(patterns)
        also_in = [place for place in erase.holding(tx, stored) if place != (owner, version)]
        _redact_events(tx, owner, [(record, left)], reason)
        forks = [name for name in _forks(tx) if _shares(tx, name, owner, version)]
        return Removed(
            conversation=owner,
            versions=[version],
            shared_by=forks,
            also_in=also_in,
            under_way=_redact_drafts(tx, {owner, *forks}, patterns, stored),
            remains=REMAINS,
            clean=True,
        )

    return _scrub(store, store.transact(job))


def delete(store: Store, conversation: str, reason: str | None = None) -> Removed:
    """Remove all content of a conversation, and remove the conversation from the list.

    Raises UnknownConversation, BadInput, Refused if it has forks or if the *reason* quotes its content.
    """
    check_text(reason, "a reason")

    def job(tx: Transaction) -> Removed:
        _check_exists(tx, conversation)
        forks = [name for name, fork in _forks(tx).items() if fork.parent == conversation]
        if forks:
            listed = [tx.conversation(fork) for fork in forks]
            names = [item.name or item.id for item in listed if item is not None]
            raise Refused(
                "conversation {conversation} cannot be deleted: {forks} forked from it",
                conversation=conversation,
                forks=", ".join(names),
            )
        content: _Content = []
        for record in tx.events(conversation):
            left = left_of(record.event) if record.json else None
            if left is not None:
                content.append((record, left))
                if reason is not None:  # finding the patterns takes as long as all the rest
                    _check_reason(reason, copies.search_patterns(texts_of(record)))
        erase.drop_cache(tx, conversation)
        _redact_events(tx, conversation, content, reason, ev.Deleted())
        return Removed(
            conversation=conversation,
            versions=[record.version for record, _ in content],
            shared_by=[],
            also_in=[],
            under_way=[],
            remains=REMAINS,
            clean=True,
        )

    return _scrub(store, store.transact(job))


def _check_reason(reason: str | None, patterns: list[str]) -> None:
    if reason is not None and any(text in reason for text in patterns):
        raise Refused("the reason quotes the text to remove, and would stay on record: leave the text out")


def _redact_events(
    tx: Transaction, conversation: str, content: _Content, reason: str | None, *more: ev.Event
) -> None:
    """Append the redactions and then *more*, and empty the events."""
    redactions = [
        ev.Redacted(
            version=record.version,
            digest=digest(record.json).hex(),
            left=msgspec.Raw(ev.encode(left)),
            reason=reason,
        )
        for record, left in content
    ]
    version, _ = tx.head(conversation)
    tx.append(conversation, version, [*redactions, *more])
    erase.empty(tx, [(conversation, record.version) for record, _ in content])
    if any(record.type in LISTED_TYPES for record, _ in content):
        list_update.refold_names(tx)


def _check_exists(tx: Transaction, conversation: str) -> None:
    if tx.conversation(conversation) is None:
        raise UnknownConversation("there is no conversation {reference}", reference=conversation)


def _forks(reader: Reader) -> dict[str, ev.Forked]:
    """Return the first events of all forks that are not deleted, by conversation."""
    deleted = {record.conversation for record in reader.events_of_types(("deleted",))}
    events = ((record.conversation, record.event) for record in reader.events_of_types(("forked",)))
    return {name: event for name, event in events if isinstance(event, ev.Forked) and name not in deleted}


def _shares(reader: Reader, fork: str, owner: str, version: int) -> bool:
    """Return True if a fork shares that event of its ancestor *owner*."""
    parts = Lineage.read(reader, fork).parts[:-1]
    return any(
        part.conversation == owner and part.upto is not None and part.after + version <= part.upto
        for part in parts
    )


def _redact_drafts(
    tx: Transaction, conversations: set[str], patterns: list[str], stored: list[bytes]
) -> list[tuple[str, int]]:
    """Remove the texts from drafts without a living writer.

    Return the (conversation, request) of drafts in progress that are in *conversations* or quote the texts.
    """
    under_way: list[tuple[str, int]] = []
    for draft in tx.drafts():
        partial = draft.partial or b""
        is_quoting = any(text in partial for text in stored)
        if drafts.is_alive(draft):
            if is_quoting or draft.conversation in conversations:
                under_way.append((draft.conversation, draft.request))
        elif is_quoting:
            try:
                left = copies.replace_texts(partial, patterns, GONE)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                left = None  # it is damaged: no answer could be made of it
            tx.renew_draft(draft._replace(partial=left))
    return under_way


def _scrub(store: Store, removed: Removed) -> Removed:
    return removed if store.scrub() else msgspec.structs.replace(removed, clean=False)
