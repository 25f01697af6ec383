"""A store in memory, for the tests of the page."""

from tests.support.browser import engine

__all__ = ["engine"]
