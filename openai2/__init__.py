"""openai2: conversations as append-only event logs in SQLite.

Every action on a conversation is an event that never changes; its messages are a projection of those events.
`Chat` is the interface for programs, `openai2` the command.
"""

import os as _os

if not _os.path.isdir(_os.path.join(_os.path.dirname(_os.path.abspath(__file__)), "store")):
    # A checkout: store/ and cli/ are next to the package.
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

# Written out, since type checkers cannot read a computed list.
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

_HOMES = {  # the module of each name that is not in `errors`
    "AKPool": "keys.pool",
    "Chat": "chat",
    "Conversation": "conversation",
    "Engine": "engine",
    "GroupChat": "group",
    "Multimodal_Part": "core.messages",
    "assistant_msg": "core.messages",
    "system_msg": "core.messages",
    "user_msg": "core.messages",
}


def __getattr__(name: str) -> object:
    # Late, so that `import openai2` is fast.
    if name not in __all__:
        raise AttributeError(f"module 'openai2' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"openai2.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
