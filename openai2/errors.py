"""Everything that openai2 raises of its own.

    Openai2Error
    ├── BadInput (ValueError)            what was handed in is wrong; nothing was changed
    │   ├── NotAMessage                  a message that is no message, named by its place
    │   ├── NoRoom                       pinned messages leave no room for the question
    │   ├── NoIndex (IndexError)         no message stands at that index
    │   └── NotARemark                   a group chat's answer holds no remarks
    ├── NoKey                            no API key was given, and none was found
    ├── UnknownConversation (LookupError)
    ├── UnknownVersion (LookupError)     a version, or a time, that the conversation does not have
    ├── AmbiguousReference (LookupError) a prefix that several conversations share
    ├── NameTaken (ValueError)
    ├── Refused (ValueError)             well formed, but not possible as things stand
    ├── ArchiveError (ValueError)        an archive that is cut off, changed, or none at all
    ├── RecordingError (ValueError)      a recording for tests that is empty, newer, or none at all
    └── StoreError
        ├── VersionConflict              the stream went on since it was read
        ├── NotAStore                    the file is not ours
        ├── NewerStore                   the file was written by a newer openai2
        ├── DamagedStore                 the file's content contradicts itself
        └── StoreUnavailable             the disk or the system refused: full, read-only, locked

Rules: an error carries its facts as attributes first (`error.facts`) and one sentence second; the
sentence is a template, so that the command can say it in another language. Errors from the API are
not here: they reach the caller as the `openai` exceptions that they are.
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
    """The base of all errors that are openai2's own.

    *template* is one sentence with `{named}` places, *facts* fill them and stay readable as
    `error.facts`; `str(error)` is the filled sentence.
    """

    def __init__(self, template: str, /, **facts: Any) -> None:
        self.template = template
        self.facts = facts
        super().__init__(template.format(**facts) if facts else template)

    @property
    def conversation(self) -> str | None:
        """The conversation concerned, where there is one."""
        return self.facts.get("conversation")

    @property
    def version(self) -> int | None:
        """The version concerned, where there is one."""
        return self.facts.get("version")

    def __reduce__(self) -> Any:
        return _rebuild, (type(self), self.template, self.facts)


def _rebuild(kind: type[Openai2Error], template: str, facts: dict[str, Any]) -> Openai2Error:
    return kind(template, **facts)


class BadInput(Openai2Error, ValueError):
    """What was handed in is wrong; nothing was changed."""


class NotAMessage(BadInput):
    """A message that is no message; the sentence names its place in the batch."""


class NoRoom(BadInput):
    """Pinned messages leave no room for the question under the limit."""


class NoIndex(BadInput, IndexError):
    """No message stands at that index of the view."""


class NotARemark(BadInput):
    """A group chat's answer holds no remarks; `facts["text"]` is what the model said."""


class NoKey(Openai2Error):
    """No API key was given, and none was found."""


class UnknownConversation(Openai2Error, LookupError):
    """No conversation has that name or id."""


class UnknownVersion(Openai2Error, LookupError):
    """The conversation has no such version, or did not exist at that time."""


class AmbiguousReference(Openai2Error, LookupError):
    """Several conversations fit; `facts["candidates"]` names them."""


class NameTaken(Openai2Error, ValueError):
    """Another conversation has that name."""


class Refused(Openai2Error, ValueError):
    """Well formed, but not possible as things stand; nothing was changed."""


class ArchiveError(Openai2Error, ValueError):
    """An archive that is cut off, changed, or none at all; nothing was imported."""


class RecordingError(Openai2Error, ValueError):
    """A recording for tests that is empty, from a newer openai2, or none at all."""


class StoreError(Openai2Error):
    """The store could not do what was asked."""


class VersionConflict(StoreError):
    """The stream went on since it was read; nothing was appended."""


class NotAStore(StoreError):
    """The file is not an openai2 store."""


class NewerStore(StoreError):
    """The file was written by a newer openai2."""


class DamagedStore(StoreError):
    """The store's content contradicts itself."""


class StoreUnavailable(StoreError):
    """The disk or the system refused: full, read-only, locked, gone."""
