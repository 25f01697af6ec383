"""The built-in loopback server that answers without a key: `OfflineServer`, and `answer`, its rules."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai2.offline.server import OfflineServer, Received, answer

__all__ = ["OfflineServer", "Received", "answer"]


def __getattr__(name: str) -> object:
    # Late: the server imports http.server, which few programs need.
    if name not in __all__:
        raise AttributeError(f"module 'openai2.offline' has no attribute {name!r}")
    from openai2.offline import server

    return getattr(server, name)
