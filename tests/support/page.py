"""Reading the HTML page that an engine exports, as a browser parses it."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser
from typing import Any

from openai2 import Conversation, Engine


class Page(HTMLParser):
    """The parts of a page: its scripts by class, its style, title, policy and tags."""

    def __init__(self, data: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: dict[str, list[str]] = {}
        self.title = ""
        self.policy = ""
        self.tags: list[str] = []
        self._current: tuple[str, str] | None = None
        self.feed(data.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        fields = dict(attrs)
        if fields.get("http-equiv") == "Content-Security-Policy":
            self.policy = fields["content"] or ""
        if tag in ("script", "style", "title"):
            self._current = (tag, fields.get("class") or tag)
            if tag != "title":
                self.blocks.setdefault(self._current[1], []).append("")

    def handle_endtag(self, tag: str) -> None:
        if self._current and tag == self._current[0]:
            self._current = None

    def handle_data(self, data: str) -> None:
        if self._current and self._current[0] == "title":
            self.title += data
        elif self._current:
            self.blocks[self._current[1]][-1] += data

    @property
    def about(self) -> dict[str, Any]:
        about: dict[str, Any] = json.loads(self.blocks["about"][0])
        return about

    def rows(self, place: int) -> list[dict[str, Any]]:
        blocks = [json.loads(block) for block in self.blocks.get("rows", [])]
        return [row for block in blocks if block["stream"] == place for row in block["rows"]]

    def texts(self) -> dict[tuple[int, int], dict[str, Any]]:
        blocks = [json.loads(block) for block in self.blocks.get("texts", [])]
        assert [block[0][:2] for block in blocks] == self.about["texts"]
        return {(place, version): text for block in blocks for place, version, text in block}


def export(engine: Engine, *names: str | Conversation) -> bytes:
    file = io.BytesIO()
    engine.export_page(list(names) or None, file)
    return file.getvalue()


def read_page(engine: Engine, *names: str | Conversation) -> Page:
    return Page(export(engine, *names))
