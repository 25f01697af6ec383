"""openai2: conversations that can be accounted for.

Every action on a dialogue is an event in SQLite that is never changed; the messages are a projection of
those events. `Chat` is the face for programs, `openai2` the command.
"""

import os as _os

if not _os.path.isdir(_os.path.join(_os.path.dirname(_os.path.abspath(__file__)), "store")):
    # A checkout: store/ and cli/ lie beside the package.
    __path__.append(_os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))))

__version__ = "2.0.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from openai2.chat import Chat
    from openai2.conversation import Conversation
    from openai2.core.messages import Multimodal_Part, assistant_msg, system_msg, user_msg
    from openai2.engine import Engine
    from openai2.errors import (
        AmbiguousReference,
        ArchiveError,
        BadInput,
        DamagedStore,
        NameTaken,
        NewerStore,
        NoIndex,
        NoKey,
        NoRoom,
        NotAMessage,
        NotARemark,
        NotAStore,
        Openai2Error,
        RecordingError,
        Refused,
        StoreError,
        StoreUnavailable,
        UnknownConversation,
        UnknownVersion,
        VersionConflict,
    )
    from openai2.group import GroupChat
    from openai2.keys.pool import AKPool

_HOMES = {
    "AKPool": "keys.pool",
    "AmbiguousReference": "errors",
    "ArchiveError": "errors",
    "BadInput": "errors",
    "Chat": "chat",
    "Conversation": "conversation",
    "DamagedStore": "errors",
    "Engine": "engine",
    "GroupChat": "group",
    "Multimodal_Part": "core.messages",
    "NameTaken": "errors",
    "NewerStore": "errors",
    "NoIndex": "errors",
    "NoKey": "errors",
    "NoRoom": "errors",
    "NotAMessage": "errors",
    "NotARemark": "errors",
    "NotAStore": "errors",
    "Openai2Error": "errors",
    "RecordingError": "errors",
    "Refused": "errors",
    "StoreError": "errors",
    "StoreUnavailable": "errors",
    "UnknownConversation": "errors",
    "UnknownVersion": "errors",
    "VersionConflict": "errors",
    "assistant_msg": "core.messages",
    "system_msg": "core.messages",
    "user_msg": "core.messages",
}

__all__ = [
    "AKPool",
    "AmbiguousReference",
    "ArchiveError",
    "BadInput",
    "Chat",
    "Conversation",
    "DamagedStore",
    "Engine",
    "GroupChat",
    "Multimodal_Part",
    "NameTaken",
    "NewerStore",
    "NoIndex",
    "NoKey",
    "NoRoom",
    "NotAMessage",
    "NotARemark",
    "NotAStore",
    "Openai2Error",
    "RecordingError",
    "Refused",
    "StoreError",
    "StoreUnavailable",
    "UnknownConversation",
    "UnknownVersion",
    "VersionConflict",
    "__version__",
    "assistant_msg",
    "system_msg",
    "user_msg",
]


def __getattr__(name: str) -> object:
    # Late, so that `import openai2` costs next to nothing.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'openai2' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"openai2.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
