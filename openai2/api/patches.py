"""Whether somebody has put a function of their own into a library, as tools do that trace or record."""

from __future__ import annotations

from types import FunctionType


def is_patched(function: object, package: str) -> bool:
    """Whether what stands in that place of *package* is not the package's own function."""
    # functools.wraps gives a copy the name and module of the original, but not its globals.
    return not (
        isinstance(function, FunctionType)
        and str(function.__globals__["__name__"]).partition(".")[0] == package
    )
