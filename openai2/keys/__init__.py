"""API keys: the pool, the classification of failures, and masking."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from openai2.keys.pool import AKPool, KeyStatus, check_key, fingerprint, mask

__all__ = ["AKPool", "KeyStatus", "check_key", "fingerprint", "mask"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openai2.keys import pool  # late: `import openai2.keys` stays fast

    return getattr(pool, name)
