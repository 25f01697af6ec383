"""Draw docs/images (`make images`) from a dialogue with the offline server."""

from __future__ import annotations

import tempfile
from pathlib import Path

from openai2 import Chat, Engine, system_msg
from openai2.offline import OfflineServer
from tests.support.chromium import Chromium

IMAGES = Path(__file__).resolve().parent.parent.parent / "docs" / "images"
MAX_BYTES = 150_000


def create_dialogues(engine: Engine, server: OfflineServer) -> None:
    """Create dialogues with a pin, a rollback, an undo, forks and a message limit."""

    def chat(name: str, limit: int | None = None) -> Chat:
        return Chat(
            "sk-offline-0000",
            server.MODEL,
            MsgMaxCount=limit,
            db=engine,
            conversation=engine.create(name),
            base_url=server.base_url,
        )

    anna = chat("Anna")
    anna.add_dialogs(system_msg("You are a patient teacher. Answer in a few words."))
    anna.pin_messages(0)
    anna.request("自然数1的后面是几?")
    anna.request("再往后是几?")
    middle = anna.version
    anna.request("再往后呢?")
    anna.request("世界上最大的海洋是哪个?")
    twin = anna.fork("Anna's twin", at=middle)
    twin.request("再往后呢?")
    capitals = twin.fork("Capitals")
    for question in ("法国的首都叫什么？", "日本首都是什么？", "意大利的首都是什么？"):
        capitals.request(question)
    anna.rollback(2)
    anna.request("意大利的首都是什么？")
    oceans = anna.fork("What if", at=anna.version - 4)
    oceans.request("世界上最大的海洋是哪个?")
    anna.undo(2)
    anna.rollback()
    ariel = chat("Ariel", 6)
    for question in ("英国的首都是什么？", "日本首都是什么？", "意大利的首都是什么？", "美国的首都是什么？"):
        ariel.request(question)


def main() -> None:
    """Draw all images."""
    IMAGES.mkdir(exist_ok=True)
    with Engine(None) as engine, OfflineServer() as server, tempfile.TemporaryDirectory() as folder:
        create_dialogues(engine, server)
        page = Path(folder) / "page.html"
        engine.export_page("Anna", page)
        with Chromium() as chromium:
            chromium.size(1080, 680, 1.2)
            chromium.open(f"{page.as_uri()}#Anna")
            chromium.screenshot(IMAGES / "page-light.png")
            chromium.media(prefers_color_scheme="dark")
            chromium.open("about:blank")
            chromium.open(f"{page.as_uri()}#Anna@15..Capitals")
            chromium.screenshot(IMAGES / "page-dark.png")
    for path in sorted(IMAGES.glob("page-*.png")):
        size = path.stat().st_size
        print(f"{path.name}: {size} bytes")
        assert size < MAX_BYTES, f"{path.name} exceeds {MAX_BYTES} bytes"


if __name__ == "__main__":
    main()
