"""A browser for the module, an engine for the test, and a page of the engine's conversations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openai2 import Engine
from tests.support.chromium import Chromium, find_browser


class Browser(Chromium):
    """A browser that shows an exported page."""

    def texts(self, selector: str) -> list[str]:
        """Return the visible text of the elements, from top to bottom."""
        found: list[str] = self.evaluate(
            f"Array.from(document.querySelectorAll('{selector}'))"
            ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
            ".map((element) => element.innerText.trim())"
        )
        return found

    def chat(self) -> list[str]:
        """Return the texts of the messages."""
        return self.texts("#chat .message .body")

    def place(self) -> str:
        """Return the title of the page: the name of the branch and the version."""
        ids = ("title", "subtitle")
        return "".join(str(self.evaluate(f"document.getElementById('{id}').innerText")) for id in ids)

    def wait_for_address(self) -> None:
        """Wait until the page has put the current event into its address."""
        time.sleep(0.35)


Show = Callable[..., Browser]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if find_browser() is None:
        pytest.skip("no Chromium is installed; `make page` gets one")
    with Browser() as browser:
        yield browser


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(None) as engine:
        yield engine


@pytest.fixture
def show(chromium: Browser, engine: Engine, tmp_path: Path) -> Iterator[Show]:
    """Open a page of the engine's conversations. The page may log nothing and request nothing."""

    def open_page(*names: str, at: str = "", width: int = 1280) -> Browser:
        engine.export_page(list(names) or None, tmp_path / "page.html")
        chromium.size(width, 800)
        chromium.open("about:blank")
        chromium.console.clear()
        chromium.requests.clear()
        chromium.open((tmp_path / "page.html").as_uri() + at)
        chromium.wait_for_frame()
        return chromium

    yield open_page
    assert not chromium.console
    assert not [url for url in chromium.requests if not url.startswith(("file:", "data:", "about:"))]
    chromium.media()
