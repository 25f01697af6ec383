"""The exceptions of openai2, and translatable messages.

    Openai2Error
    ├── BadInput (ValueError)            an argument is wrong; nothing was changed
    │   ├── NotAMessage                  an invalid message, named by its place
    │   ├── NoRoom                       pinned messages leave no room for the question
    │   ├── NoIndex (IndexError)         no message has that index
    │   └── NotARemark                   a group chat's answer holds no remarks
    ├── NoKey                            no API key was given, and none was found
    ├── UnknownConversation (LookupError)
    ├── UnknownVersion (LookupError)     a version, or a time, that the conversation does not have
    ├── AmbiguousReference (LookupError) a prefix that several conversations share
    ├── NameTaken (ValueError)
    ├── Refused (ValueError)             valid, but not possible in the current state
    ├── ArchiveError (ValueError)        an archive that is incomplete, changed, or not an archive
    ├── RecordingError (ValueError)      a recording for tests that is empty, newer, or invalid
    └── StoreError
        ├── VersionConflict              the stream has new events since it was read
        ├── NotAStore                    the file is not an openai2 store
        ├── NewerStore                   the file was written by a newer openai2
        ├── DamagedStore                 the content of the file is inconsistent
        └── StoreUnavailable             the disk or the system refused: full, read-only, locked

Invariants: an error has a template and the facts that fill it (`error.facts`), so that the command can
translate it. Errors from the API reach the caller as the `openai` exceptions that they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class LazyMessage(NamedTuple):
    """A message that is not an error: a *template* with `{named}` places, and the *facts* that fill them.

    The command translates the template; `str()` fills in the English one. A fact is data, a word that the
    catalogues know, or a LazyMessage.
    """

    template: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        return self.template.format(**self.facts) if self.facts else self.template


def lazy_message(template: str, /, **facts: Any) -> LazyMessage:
    """Return the message of *template*, filled with *facts* when it is shown."""
    return LazyMessage(template, facts)


class Openai2Error(Exception):
    """The base of all exceptions of openai2.

    *template* is one sentence with `{named}` places, *facts* fill them; `str(error)` is the filled sentence.
    """

    def __init__(self, template: str, /, **facts: Any) -> None:
        self.template = template
        self.facts = facts
        super().__init__(template.format(**facts) if facts else template)

    @property
    def conversation(self) -> str | None:
        """The conversation that the error is about, or None."""
        return self.facts.get("conversation")

    @property
    def version(self) -> int | None:
        """The version that the error is about, or None."""
        return self.facts.get("version")

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.template, self.facts)


def _rebuild(kind: type[Openai2Error], template: str, facts: dict[str, Any]) -> Openai2Error:
    return kind(template, **facts)


class BadInput(Openai2Error, ValueError):
    """An argument is wrong; nothing was changed."""


class NotAMessage(BadInput):
    """An invalid message; the text names its place in the batch."""


class NoRoom(BadInput):
    """Pinned messages leave no room for the question under the limit."""


class NoIndex(BadInput, IndexError):
    """No message of the view has that index."""


class NotARemark(BadInput):
    """A group chat's answer holds no remarks; `facts["text"]` is the answer."""


class NoKey(Openai2Error):
    """No API key was given, and none was found."""


class UnknownConversation(Openai2Error, LookupError):
    """No conversation has that name or id."""


class UnknownVersion(Openai2Error, LookupError):
    """The conversation has no such version, or did not exist at that time."""


class AmbiguousReference(Openai2Error, LookupError):
    """Several conversations match; `facts["candidates"]` lists them."""


class NameTaken(Openai2Error, ValueError):
    """Another conversation has that name."""


class Refused(Openai2Error, ValueError):
    """Valid, but not possible in the current state; nothing was changed.

    An answer that finds no place in the view is on record all the same; `facts["message"]` is its id.
    """


class ArchiveError(Openai2Error, ValueError):
    """An archive that is incomplete, changed, or not an archive; nothing was imported."""


class RecordingError(Openai2Error, ValueError):
    """A recording for tests that is empty, from a newer openai2, or invalid."""


class StoreError(Openai2Error):
    """The store could not complete the operation."""


class VersionConflict(StoreError):
    """The stream has new events since it was read; nothing was appended."""


class NotAStore(StoreError):
    """The file is not an openai2 store."""


class NewerStore(StoreError):
    """The file was written by a newer openai2."""


class DamagedStore(StoreError):
    """The content of the store is inconsistent. `str()` ends with the `advice` on what to do next."""

    @property
    def advice(self) -> LazyMessage | None:
        """What to do next; None if the message says it already."""
        if "openai2 rebuild" in self.template:
            return None
        return lazy_message(
            "run `openai2 verify` to see what is damaged, and use a backup, "
            "or what `sqlite3 FILE .recover` saves"
        )

    def __str__(self) -> str:
        return "; ".join(str(part) for part in (super().__str__(), self.advice) if part is not None)


class StoreUnavailable(StoreError):
    """The disk or the system refused: full, read-only, locked, gone."""
