"""Tools: schemas from functions, and the loop of model and tools."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from openai2.tools.functions import Tool

__all__ = ["Tool"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from openai2.tools import functions  # late: `import openai2.tools` stays fast

    return getattr(functions, name)
