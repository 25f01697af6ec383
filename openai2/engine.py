"""The engine: a store's conversations, found, made, listed, checked and carried elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core.ids import check_name, new_id
from openai2.core.request_events import StreamState
from openai2.errors import AmbiguousReference, NameTaken, UnknownConversation
from openai2.history.lineage import Lineage
from openai2.readmodels import conversations as conversation_list
from openai2.store import Listed, SqliteStore, Store, open_store, share

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from openai2.archive.atomic_file import File
    from openai2.archive.format import Exported
    from openai2.archive.importer import Imported
    from openai2.audit.report import Report
    from openai2.audit.verify import Heads, Progress
    from openai2.history.diff import Branch, Diff, Exchange
    from openai2.history.follow import Following
    from openai2.history.fork_graph import Member
    from openai2.history.why import Why
    from openai2.readmodels.search import Found
    from openai2.readmodels.usage import Line
    from openai2.redaction.redact import Removed


class Engine:
    """All conversations of one store.

    *db* is a path, a URL (`sqlite:///PATH`), a store, or None for memory. *synchronous* is SQLite's
    (FULL or NORMAL). Raises NotAStore, NewerStore, StoreUnavailable, BadInput.
    """

    def __init__(
        self, db: str | os.PathLike[str] | Store | None = None, *, synchronous: str = "FULL"
    ) -> None:
        self.store: Store
        self._release: Callable[[], None]
        if db is not None and not isinstance(db, (str, os.PathLike)):
            self.store, self._release = db, _nobody
        elif synchronous.upper() == "FULL":
            self.store, self._release = share(db)
        else:
            self.store = open_store(db, synchronous=synchronous)
            self._release = self.store.close

    def __repr__(self) -> str:
        return f"<Engine on {self.store.name}>"

    def close(self) -> None:
        """Let go of the store; the last one to do so closes it. Closing twice is fine."""
        self._release()

    def share(self) -> Engine:
        """Another engine on the same store, to be closed on its own."""
        twin = Engine(self.store)
        if isinstance(self.store, SqliteStore) and self.store.users:
            twin.store, twin._release = share(self.store)
        return twin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- making and finding

    def new(self, name: str | None = None) -> Conversation:
        """A new conversation that enters the store with its first event."""
        check_name(name)
        return Conversation(self.store, Lineage.root(new_id()), [ev.Created(name=name)])

    def create(self, name: str | None = None) -> Conversation:
        """A new conversation, in the store at once. Raises NameTaken."""
        conversation = self.new(name)
        conversation.commit(_nothing)
        return conversation

    def open(self, name_or_id: str) -> Conversation:
        """The conversation with exactly that name, or that full id. Raises UnknownConversation."""
        with self.store.reading() as reader:
            listed = reader.named(name_or_id) or reader.conversation(name_or_id)
            if listed is None:
                raise unknown(name_or_id)
            return Conversation(self.store, Lineage.read(reader, listed.id))

    def open_or_create(self, name: str) -> Conversation:
        """The conversation with that name or id; made if there is none. Raises BadInput for no name."""
        check_name(name)
        try:
            return self.open(name)
        except UnknownConversation:
            try:
                return self.create(name)
            except NameTaken:  # another process was quicker
                return self.open(name)

    def find(self, reference: str) -> Conversation:
        """The conversation that a name, an id, or the unique start of either names.

        Raises UnknownConversation, AmbiguousReference (which names the candidates).
        """
        try:
            return self.open(reference)
        except UnknownConversation:
            with self.store.reading() as reader:
                found = reader.starting_with(reference) if reference else []
        if not found:
            raise unknown(reference)
        if len(found) > 1:
            raise AmbiguousReference(
                "{reference} could be {names}: type more of it",
                reference=reference,
                names=", ".join(listed.name or listed.id for listed in found),
                candidates=found,
            )
        return self.open(found[0].id)

    # -- the list

    def conversations(self, archived: bool | None = False, limit: int | None = None) -> list[Listed]:
        """The conversations, those that changed last first; *archived* None means all of them."""
        return conversation_list.conversations(self.store, archived, limit)

    def current(self) -> Conversation | None:
        """The conversation last chatted in; None where there is none."""
        listed = conversation_list.current(self.store)
        if listed is None:
            return None
        with self.store.reading() as reader:
            return Conversation(self.store, Lineage.read(reader, listed.id))

    def children(self, conversation: str) -> list[Listed]:
        """The forks of the conversation with that id."""
        conversation_list.catch_up(self.store)
        with self.store.reading() as reader:
            return reader.children(conversation)

    def family(self, conversation: str) -> list[Member]:
        """The conversation with that name or id, its ancestors, and all that forked from these."""
        from openai2.history import fork_graph

        return fork_graph.family(self.conversations(archived=None), self.open(conversation).id)

    def why(self, conversation: str) -> list[Why]:
        """For each message ever added to the conversation: is it in view, and which event saw to that?"""
        return self.open(conversation).why()

    # -- searching

    def search(
        self,
        text: str,
        *,
        current: bool = False,
        conversation: str | None = None,
        limit: int | None = 20,
        raw: bool = False,
    ) -> list[Found]:
        """The messages, of all that were ever added, that hold all words of *text*, the best first.

        *current*: those only that stand in a view now. *conversation*: the name or id of the one to search
        in, with what it inherited. *limit* None: all of them. *raw*: the text is a query of SQLite's FTS5,
        with its AND, OR, NOT, NEAR and `*`. Raises BadInput, UnknownConversation.
        """
        from openai2.readmodels import search

        return search.find(self.store, text, current=current, conversation=conversation, limit=limit, raw=raw)

    # -- watching and comparing

    def follow(
        self, conversation: str | Conversation | None = None, after: int | None = None, *, poll: float = 0.05
    ) -> Following:
        """The events that any process appends from now on, for `for` and `async for`; `stop()` ends it.

        Of one *conversation* (a name, an id, or itself), or of the whole store. *after*: go on behind that
        version of the conversation, or that position of the store, where 0 means all there is; None: now.
        *poll* is the longest pause between two looks, in seconds. Raises UnknownConversation, BadInput.
        """
        from openai2.history import follow

        if isinstance(conversation, str):
            conversation = self.open(conversation)
        follow.check_options(after, poll)
        shared = self.share()
        stream = None if conversation is None else conversation.id
        return follow.Following(shared.store, stream, after, poll, shared.close)

    def diff(
        self,
        a: str | Conversation,
        b: str | Conversation,
        versions: tuple[int | None, int | None] = (None, None),
    ) -> Diff:
        """Two conversations side by side, aligned by the question they answer, as they stand or stood at
        *versions*.

        Raises UnknownConversation, UnknownVersion, Refused where they have no question in common.
        """
        from openai2.history import diff

        branches: list[tuple[Branch, list[Exchange]]] = []
        for reference, at in zip((a, b), versions, strict=True):
            conversation = self.open(reference) if isinstance(reference, str) else reference
            if at is not None:
                conversation.check_version(at)
            name, version = conversation.name, conversation.version if at is None else at
            with conversation.store.reading() as reader:
                branches.append(diff.read_branch(reader, conversation.id, name, version))
        return diff.diff(*branches)

    # -- checking

    def verify(self, heads: Heads | None = None, progress: Progress | None = None) -> Report:
        """Recompute every hash, number and derived table from the events, and compare.

        *heads* were kept elsewhere: hashes, or ids of conversations with theirs; each must still be there,
        or a tail was cut off. *progress* is called with (done, total). What is wrong is in the report.
        """
        from openai2.audit import verify as audit_verify

        return audit_verify.verify(self.store, heads, progress)

    def heads(self) -> dict[str, str]:
        """The hash of each conversation's last event, by id: kept elsewhere, they prove that nothing is
        missing at the end."""
        with self.store.reading() as reader:
            return reader.heads()

    # -- removing

    def redact(self, conversation: str, message: int, reason: str | None = None) -> Removed:
        """Remove the content of a message (its id), or of another event, from the file for good.

        The chain stays provable; what remains is in the report, and the *reason* on record. Raises
        UnknownConversation, Refused where there is nothing to remove or the reason quotes it, BadInput.
        """
        from openai2.redaction import redact as redaction

        return redaction.redact(self.store, self.open(conversation).id, message, reason)

    def delete(self, conversation: str, reason: str | None = None) -> Removed:
        """Remove all content of a conversation from the file for good; an empty shell stays on record.

        So does the *reason*. Raises UnknownConversation, Refused where others forked from it or the reason
        quotes it, BadInput.
        """
        from openai2.redaction import redact as redaction

        return redaction.delete(self.store, self.open(conversation).id, reason)

    def scrub(self) -> bool:
        """Write the file anew, so that nothing removed is left in it; False where others' reading hinders."""
        return self.store.scrub()

    # -- carrying elsewhere

    def export(
        self,
        conversations: Iterable[str] | None = None,
        *,
        file: File,
        progress: Progress | None = None,
        format: str = "events",
    ) -> Exported:
        """Write conversations (names or ids; None: all) to *file* as an archive, with what they descend from.

        *file* is a path, written whole or not at all, or a binary file. *format* is "events", or for the
        view of one conversation "messages" (a JSON list, as `fetch_messages` gives it) or "markdown", or
        "html" as `export_page` writes it. Raises UnknownConversation, DamagedStore, BadInput.
        """
        from openai2.archive import format as archive_format
        from openai2.archive import writer as archive_writer

        if format == "html":
            return self.export_page(conversations, file, progress)
        if format != "events":
            from openai2.archive import atomic_file, markdown

            names = list(conversations or ())
            markdown.check_format(format, names)
            held = [(one.message, one.pinned) for one in self.open(names[0]).view_messages()]
            with atomic_file.atomic_write(file) as out:
                out.write(markdown.format_messages(format, held))
            return archive_format.Exported(conversations=1, events=0, added=[])
        ids = None if conversations is None else [self.open(one).id for one in conversations]
        return archive_writer.export(self.store, ids, file, progress)

    def export_page(
        self,
        conversations: str | Conversation | Iterable[str | Conversation] | None,
        file: File,
        progress: Progress | None = None,
    ) -> Exported:
        """Write one HTML file, to be looked at in a browser: conversations with their whole families.

        *conversations* (names, ids, or themselves; None: all) are those to open it with, the first of them;
        *file* as for `export`. Raises UnknownConversation, DamagedStore, BadInput.
        """
        from openai2.html import export as html_export

        if isinstance(conversations, (str, Conversation)):
            conversations = [conversations]
        ids: list[str] | None = None
        if conversations is not None:
            ids = [self.open(one).id if isinstance(one, str) else one.id for one in conversations]
        return html_export.export(self.store, ids, file, progress)

    def import_(self, file: File, progress: Progress | None = None) -> Imported:
        """Take in a file: an archive, a JSON list of messages, or a transcript in Markdown. All or nothing.

        *file* is a path or a binary file. What is here already is recognised; a stream that went on
        differently on both sides is kept as a fork. Raises ArchiveError, with nothing changed.
        """
        from openai2.archive import import_file

        return import_file.import_(self.store, file, progress)

    def stats(self, by: Literal["key", "model", "day"] = "model") -> list[Line]:
        """What requests have cost: how many, how many failed, tokens and seconds, by key, model or day.

        Keys are told by their fingerprints. Raises BadInput (a ValueError) for another *by*.
        """
        from openai2.readmodels import usage

        with self.store.reading() as reader:
            return usage.stats(reader.events_of_types(usage.TYPES), by)

    def rebuild(self) -> None:
        """Drop every derived table and make it anew from the events, all or nothing.

        The full-text index follows, where there was one.
        """
        from openai2.readmodels import rebuild as derived
        from openai2.readmodels import search

        searched = search.is_kept(self.store)
        derived.rebuild(self.store)
        if searched:
            search.bring_up(self.store)


def unknown(reference: str) -> UnknownConversation:
    """The error for a reference that names nothing."""
    if not str(reference).strip():  # nobody checks what is looked for
        return UnknownConversation("an empty name names no conversation")
    return UnknownConversation("there is no conversation {reference}", reference=reference)


def _nobody() -> None:
    """Letting go of a store that somebody else will close."""


def _nothing(state: StreamState) -> list[ev.Event]:
    return []
