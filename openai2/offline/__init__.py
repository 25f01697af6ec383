"""A loopback server that answers by fixed rules without a key: `OfflineServer`, and the rules as `answer`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai2.offline.server import OfflineServer, Received, answer

__all__ = ["OfflineServer", "Received", "answer"]


def __getattr__(name: str) -> object:
    # Imported late: few programs need the server, and http.server is slow to import.
    if name not in __all__:
        raise AttributeError(f"module 'openai2.offline' has no attribute {name!r}")
    from openai2.offline import server

    return getattr(server, name)
