"""All conversations of one store: create, find, list, search, verify, redact, export and import them.

Each method resolves names and hands the store to the package that does the work, imported when needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core.ids import check_name, new_id
from openai2.core.request_events import StreamState
from openai2.errors import AmbiguousReference, NameTaken, UnknownConversation
from openai2.handle import StoreHandle
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

    *db* is a path, a URL (`sqlite:///PATH`), a store, or None for memory. *synchronous* is SQLite's setting
    (FULL or NORMAL). The store stays open for as long as the engine or a conversation, stream or iterator
    from it is in use. Raises NotAStore, NewerStore, StoreUnavailable, BadInput.
    """

    def __init__(
        self, db: str | os.PathLike[str] | Store | None = None, *, synchronous: str = "FULL"
    ) -> None:
        if db is not None and not isinstance(db, (str, os.PathLike)):
            self.handle = StoreHandle(db, _noop)
        elif synchronous.upper() == "FULL":
            self.handle = StoreHandle(*share(db))
        else:
            own = open_store(db, synchronous=synchronous)
            self.handle = StoreHandle(own, own.close)

    def __repr__(self) -> str:
        return f"<Engine on {self.store.name}>"

    @property
    def store(self) -> Store:
        """The store."""
        return self.handle.store

    def close(self) -> None:
        """Stop the open requests, and release the store, which closes with its last user.

        What came of each request is on record when this returns. A stream that is read afterwards raises
        StoreError. Closing twice is fine.
        """
        self.handle.close()

    def share(self) -> Engine:
        """Return another engine on the same store, to be closed separately."""
        twin = Engine(self.store)
        if isinstance(self.store, SqliteStore) and self.store.users:
            twin.handle = StoreHandle(*share(self.store))
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

    # -- create and find

    def new(self, name: str | None = None) -> Conversation:
        """Return a new conversation that enters the store with its first event. Raises BadInput."""
        check_name(name)
        return Conversation(self.handle, Lineage.root(new_id()), [ev.Created(name=name)])

    def create(self, name: str | None = None) -> Conversation:
        """Create a conversation in the store. Raises NameTaken, BadInput."""
        conversation = self.new(name)
        conversation.commit(_no_events)
        return conversation

    def open(self, name_or_id: str) -> Conversation:
        """Return the conversation with exactly that name or full id. Raises UnknownConversation."""
        with self.store.reading() as reader:
            listed = reader.named(name_or_id) or reader.conversation(name_or_id)
            if listed is None:
                raise unknown(name_or_id)
            return Conversation(self.handle, Lineage.read(reader, listed.id))

    def open_or_create(self, name: str) -> Conversation:
        """Return the conversation with that name or id, created if there is none. Raises BadInput."""
        check_name(name)
        try:
            return self.open(name)
        except UnknownConversation:
            try:
                return self.create(name)
            except NameTaken:  # another process created it meanwhile
                return self.open(name)

    def find(self, reference: str) -> Conversation:
        """Return the conversation with that name or id, or whose name or id alone starts with it.

        Raises UnknownConversation, AmbiguousReference (which lists the candidates).
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
                "{reference} could be {names}: type more characters",
                reference=reference,
                names=", ".join(listed.name or listed.id for listed in found),
                candidates=found,
            )
        return self.open(found[0].id)

    # -- the list

    def conversations(self, archived: bool | None = False, limit: int | None = None) -> list[Listed]:
        """Return the conversations, last changed first; *archived* None means all of them."""
        return conversation_list.conversations(self.store, archived, limit)

    def current(self) -> Conversation | None:
        """Return the conversation with the latest question, None if there is none."""
        listed = conversation_list.current(self.store)
        if listed is None:
            return None
        with self.store.reading() as reader:
            return Conversation(self.handle, Lineage.read(reader, listed.id))

    def children(self, conversation: str) -> list[Listed]:
        """Return the direct forks of the conversation with that id."""
        conversation_list.catch_up(self.store)
        with self.store.reading() as reader:
            return reader.children(conversation)

    def family(self, conversation: str) -> list[Member]:
        """Return the whole tree of forks that holds the conversation with that name or id."""
        from openai2.history import fork_graph

        return fork_graph.family(self.conversations(archived=None), self.open(conversation).id)

    def why(self, conversation: str) -> list[Why]:
        """Return, for each message ever added, if it is in view and which events put it in or took it out."""
        return self.open(conversation).why()

    # -- search

    def search(
        self,
        text: str,
        *,
        current: bool = False,
        conversation: str | None = None,
        limit: int | None = 20,
        raw: bool = False,
    ) -> list[Found]:
        """Return the messages ever added that contain all words of *text*, the best matches first.

        *current*: only messages in a current view. *conversation*: only in the one with that name or id,
        inherited messages included. *limit* None: all results. *raw*: *text* is a query in the syntax of
        SQLite's FTS5 (AND, OR, NOT, NEAR, `*`). Raises BadInput, UnknownConversation.
        """
        from openai2.readmodels import search

        return search.find(self.store, text, current=current, conversation=conversation, limit=limit, raw=raw)

    # -- follow and compare

    def follow(
        self, conversation: str | Conversation | None = None, after: int | None = None, *, poll: float = 0.05
    ) -> Following:
        """Return an iterator, for `for` and `async for`, over the events that any process appends.

        *conversation*: only events of that one (a name, an id, or the object). *after*: start behind that
        version of the conversation, or that position of the store, 0 for the first event; None: start now.
        *poll* is the longest pause between two polls, in seconds. `stop()` ends the iteration. Raises
        UnknownConversation, BadInput.
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
        """Compare two conversations, now or at *versions*, aligned by their questions.

        Raises UnknownConversation, UnknownVersion, Refused if they have no question in common.
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

    # -- verify

    def verify(self, heads: Heads | None = None, progress: Progress | None = None) -> Report:
        """Recompute every hash, number and derived table from the events, and report the differences.

        *heads* are hashes that were kept elsewhere, alone or by conversation id; a missing one means that a
        tail was cut off. *progress* is called with (done, total).
        """
        from openai2.audit import verify as audit_verify

        return audit_verify.verify(self.store, heads, progress)

    def heads(self) -> dict[str, str]:
        """Return the hash of each conversation's last event, by id, to be kept elsewhere for `verify`."""
        with self.store.reading() as reader:
            return reader.heads()

    # -- remove

    def redact(self, conversation: str, message: int, reason: str | None = None) -> Removed:
        """Remove the content of a message, or of another event, by its id from the file for good.

        The hash chain stays verifiable, and the *reason* is recorded. The report names copies that remain.
        Raises UnknownConversation, Refused if there is nothing to remove or the reason quotes it, BadInput.
        """
        from openai2.redaction import redact as redaction

        return redaction.redact(self.store, self.open(conversation).id, message, reason)

    def delete(self, conversation: str, reason: str | None = None) -> Removed:
        """Remove all content of a conversation from the file for good; its emptied events stay.

        The *reason* is recorded. Raises UnknownConversation, Refused if it has forks or the reason quotes
        removed content, BadInput.
        """
        from openai2.redaction import redact as redaction

        return redaction.delete(self.store, self.open(conversation).id, reason)

    def scrub(self) -> bool:
        """Run VACUUM and truncate the WAL, so that no removed content is left in the file.

        Returns False if a reader on another connection prevents it.
        """
        return self.store.scrub()

    # -- export and import

    def export(
        self,
        conversations: Iterable[str] | None = None,
        *,
        file: File,
        progress: Progress | None = None,
        format: str = "events",
    ) -> Exported:
        """Write conversations (names or ids; None: all) and their ancestors to *file*.

        *file* is a binary file, or a path, which is written completely or not at all. *format* is "events"
        (an archive); "messages" (a JSON list) or "markdown" for the view of one conversation; or "html", see
        `export_page`. *progress* is called with (done, total). Raises UnknownConversation, DamagedStore,
        BadInput.
        """
        from openai2.archive import format as archive_format
        from openai2.archive import writer as archive_writer

        if format == "html":
            return self.export_page(conversations, file, progress)
        if format != "events":
            from openai2.archive import atomic_file, markdown

            names = list(conversations or ())
            markdown.check_format(format, names)
            messages = [(it.message, it.pinned) for it in self.open(names[0]).view_messages()]
            with atomic_file.atomic_write(file) as out:
                out.write(markdown.format_messages(format, messages))
            return archive_format.Exported(conversations=1, events=0, added=[])
        ids = None if conversations is None else [self.open(name).id for name in conversations]
        return archive_writer.export(self.store, ids, file, progress)

    def export_page(
        self,
        conversations: str | Conversation | Iterable[str | Conversation] | None,
        file: File,
        progress: Progress | None = None,
    ) -> Exported:
        """Write conversations and their whole trees of forks as one HTML page.

        *conversations* are names, ids or objects, None for all; the page opens with the first. *file* and
        *progress* as for `export`. Raises UnknownConversation, DamagedStore, BadInput.
        """
        from openai2.html import export as html_export

        if isinstance(conversations, (str, Conversation)):
            conversations = [conversations]
        ids: list[str] | None = None
        if conversations is not None:
            ids = [self.open(it).id if isinstance(it, str) else it.id for it in conversations]
        return html_export.export(self.store, ids, file, progress)

    def import_(self, file: File, progress: Progress | None = None) -> Imported:
        """Import an archive, a JSON list of messages, or a Markdown transcript, in one transaction.

        *file* is a path or a binary file. Events that the store has already are skipped; a stream that
        diverged is imported as a fork. *progress* is called with (done, total). Raises ArchiveError.
        """
        from openai2.archive import import_file

        return import_file.import_(self.store, file, progress)

    def stats(self, by: Literal["key", "model", "day"] = "model") -> list[Line]:
        """Return the number of requests, failures, tokens and seconds, by key, model or day.

        Keys appear as fingerprints. Raises BadInput (a ValueError) for another *by*.
        """
        from openai2.readmodels import usage

        with self.store.reading() as reader:
            return usage.stats(reader.events_of_types(usage.TYPES), by)

    def rebuild(self) -> None:
        """Drop every derived table and make it again from the events, in one transaction.

        The full-text index is made again too if there was one.
        """
        from openai2.readmodels import rebuild, search

        has_index = search.has_index(self.store)
        rebuild.rebuild(self.store)
        if has_index:
            search.update_index(self.store)


def unknown(reference: str) -> UnknownConversation:
    """Return the error for a reference that matches no conversation."""
    if not str(reference).strip():
        return UnknownConversation("conversation name must not be empty")
    return UnknownConversation("there is no conversation {reference}", reference=reference)


def _noop() -> None:
    """Release nothing: the caller closes its own store."""


def _no_events(state: StreamState) -> list[ev.Event]:
    return []
