"""Fixtures of tests/support/browser.py for the tests in this folder."""

from tests.support.browser import chromium, engine, show

__all__ = ["chromium", "engine", "show"]
