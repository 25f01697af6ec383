"""Removing content for good: a secret that should never have been typed, or a whole conversation.

A redaction puts a `redacted` event on record, with the digest of what goes and what is left without it, and
empties the event; since the hash covers the digest, the chain holds. Rules:

- What is left keeps its shape: role and kind, the ids of tool calls, the model, tokens, times and
  fingerprints of keys. Texts, reasoning, arguments, alternatives and log probabilities go.
- A message belongs to the stream that added it. Redacting it through a fork redacts it where it lies, for
  all that share it.
- `delete` does so for all content of a stream and ends it with `deleted`: an empty shell on record, that no
  list shows and nothing can be added to. It is refused where forks live on it.
- The files are written anew afterwards. Where somebody else's reading stands in the way of that, the report
  says so (`clean`); and it names other events in which the text, or a telling word of it, stands (`also_in`).
- A draft is no fact yet. One that nobody writes any more loses the text where it quotes it; a request that
  is under way is named (`under_way`), since what its answer will say is not known.
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
from openai2.readmodels import rebuild
from openai2.redaction import copies
from openai2.store import Reader, Store, Transaction, erase
from openai2.store.codec import digest
from openai2.store.transaction import LISTED_TYPES

#: What stands where a text stood.
GONE = "[redacted]"

#: What a redaction leaves in the file, in words.
REMAINS = (
    "that there was an event, its type, time and place in its conversation",
    "the SHA-256 of what it said: who guesses a short text can confirm the guess",
    "roles, names of group roles, models, counts of tokens, durations, fingerprints of keys",
)


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, and what remains.

    *versions* of *conversation* were emptied. *shared_by* are the forks that have seen it. *also_in*
    names (conversation, version) of other events that hold the same text, or a word of it that is telling
    (see `traces`). *under_way* names (conversation, request) of requests whose answers are still coming,
    and may quote it: they were asked with it, or do so already. *clean*: no byte of it is left in the
    store's files; False where another process, or thread, was reading and has to finish first
    (`Engine.scrub` tries again).
    """

    conversation: str
    versions: list[int]
    shared_by: list[str]
    also_in: list[tuple[str, int]]
    under_way: list[tuple[str, int]]
    remains: tuple[str, ...]
    clean: bool


def texts_of(record: ev.Recorded) -> list[str]:
    """What a redaction of this event would take out of it, text by text."""
    left = left_of(record.event) if record.json else None
    return [] if left is None else copies.lost(record.json, ev.encode(left))


def left_of(event: ev.Event) -> ev.Event | None:
    """The event without its content; None where it has none."""
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
    """The message without what it says, and of the same kind."""
    shell: msg.Message = {"role": message["role"], "content": GONE}
    if "tool_call_id" in message:
        shell["tool_call_id"] = message["tool_call_id"]
    if msg.kind(message) == msg.CALLS:
        call = {"type": "function", "function": {"name": GONE, "arguments": "{}"}}
        found = message.get("tool_calls")
        calls = [one for one in found if is_mapping(one)] if is_list(found) else []
        shell["tool_calls"] = [{"id": one.get("id"), **call} for one in calls] or [call]
    return shell


def _bare(attempts: list[dict[str, object]]) -> list[dict[str, object]]:
    """Tries that failed, without the server's sentence, which may quote what was sent."""
    return [{key: value for key, value in attempt.items() if key != "message"} for attempt in attempts]


def redact(store: Store, conversation: str, number: int, reason: str | None = None) -> Removed:
    """Remove the content of the event with id *number* of a conversation.

    Raises UnknownConversation, Refused where there is no such event, nothing in it to remove, or a *reason*
    that quotes it, BadInput.
    """
    check_text(reason, "a reason")

    def job(tx: Transaction) -> Removed:
        _check_there(tx, conversation)
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
                "version {version} of conversation {conversation} holds no content that could be removed",
                conversation=owner,
                version=version,
            )
        wanted = copies.telling(texts_of(record))
        _check_quotes_none(reason, wanted)
        stored = copies.as_stored(wanted)
        also = [place for place in erase.holding(tx, stored) if place != (owner, version)]
        _take(tx, owner, [(record, left)], reason, [])
        forks = [name for name in _forks(tx) if _sees(tx, name, owner, version)]
        return Removed(
            conversation=owner,
            versions=[version],
            shared_by=forks,
            also_in=also,
            under_way=_from_drafts(tx, {owner, *forks}, wanted, stored),
            remains=REMAINS,
            clean=True,
        )

    return _scrubbed(store, store.transact(job))


def delete(store: Store, conversation: str, reason: str | None = None) -> Removed:
    """Remove all content of a conversation, and the conversation from the list.

    Raises UnknownConversation, Refused where others forked from it or the *reason* quotes it, BadInput.
    """
    check_text(reason, "a reason")

    def job(tx: Transaction) -> Removed:
        _check_there(tx, conversation)
        forks = [name for name, fork in _forks(tx).items() if fork.parent == conversation]
        if forks:
            listed = [tx.conversation(name) for name in forks]
            named = [one.name or one.id for one in listed if one is not None]
            raise Refused(
                "conversation {conversation} cannot be deleted: {forks} forked from it",
                conversation=conversation,
                forks=", ".join(named),
            )
        taken: list[tuple[ev.Recorded, ev.Event]] = []
        for record in tx.events(conversation):
            left = left_of(record.event) if record.json else None
            if left is not None:
                taken.append((record, left))
                if reason is not None:  # to look for what is telling takes as long as all the rest
                    _check_quotes_none(reason, copies.telling(texts_of(record)))
        erase.drop_cache(tx, conversation)
        _take(tx, conversation, taken, reason, [ev.Deleted()])
        versions = [record.version for record, _ in taken]
        return Removed(
            conversation=conversation,
            versions=versions,
            shared_by=[],
            also_in=[],
            under_way=[],
            remains=REMAINS,
            clean=True,
        )

    return _scrubbed(store, store.transact(job))


def _check_quotes_none(reason: str | None, wanted: list[str]) -> None:
    if reason is not None and any(text in reason for text in wanted):
        raise Refused("the reason quotes the text that is to go, and would stay on record")


def _take(
    tx: Transaction,
    conversation: str,
    taken: list[tuple[ev.Recorded, ev.Event]],
    reason: str | None,
    more: list[ev.Event],
) -> None:
    records: list[ev.Event] = [
        ev.Redacted(
            version=record.version,
            digest=digest(record.json).hex(),
            left=msgspec.Raw(ev.encode(left)),
            reason=reason,
        )
        for record, left in taken
    ]
    version, _ = tx.head(conversation)
    tx.append(conversation, version, [*records, *more])
    erase.empty(tx, [(conversation, record.version) for record, _ in taken])
    if any(record.type in LISTED_TYPES for record, _ in taken):
        rebuild.name_anew(tx)


def _check_there(tx: Transaction, conversation: str) -> None:
    if tx.conversation(conversation) is None:
        raise UnknownConversation("there is no conversation {reference}", reference=conversation)


def _forks(reader: Reader) -> dict[str, ev.Forked]:
    """The forks in the store that are not deleted."""
    gone = {record.conversation for record in reader.events_of_types(("deleted",))}
    found = ((record.conversation, record.event) for record in reader.events_of_types(("forked",)))
    return {name: event for name, event in found if isinstance(event, ev.Forked) and name not in gone}


def _sees(reader: Reader, fork: str, owner: str, version: int) -> bool:
    """Whether a fork shares that event of its ancestor."""
    parts = Lineage.read(reader, fork).parts[:-1]
    return any(
        part.conversation == owner and part.upto is not None and part.after + version <= part.upto
        for part in parts
    )


def _from_drafts(
    tx: Transaction, conversations: set[str], wanted: list[str], stored: list[bytes]
) -> list[tuple[str, int]]:
    """Take these texts out of what is left of cut answers; the requests that are under way and may quote
    them: those of these *conversations*, and those that do so already."""
    under_way: list[tuple[str, int]] = []
    for draft in tx.drafts():
        partial = draft.partial or b""
        quotes = any(text in partial for text in stored)
        if drafts.is_alive(draft):
            if quotes or draft.conversation in conversations:
                under_way.append((draft.conversation, draft.request))
        elif quotes:
            try:
                left = copies.without(partial, wanted, GONE)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                left = None  # it is damaged, and no answer could be made of it
            tx.renew_draft(draft._replace(partial=left))
    return under_way


def _scrubbed(store: Store, removed: Removed) -> Removed:
    return removed if store.scrub() else msgspec.structs.replace(removed, clean=False)
