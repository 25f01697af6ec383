"""Ask the questions of a conversation again, in a fork."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from openai2.replay.run import Progress, Replayed

__all__ = ["Progress", "Replayed"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openai2.replay import run  # late: `import openai2.replay` stays fast

    return getattr(run, name)
