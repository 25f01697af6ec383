"""Files that go with a question, as content parts of its message.

Rule: what the API has no part for is refused before anything is asked, by name and with the reason. What a
file is, its first bytes say; its name is asked only where they do not.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import clip, one_line
from openai2.core.messages import Multimodal_Part
from openai2.core.typeguards import is_mapping
from openai2.errors import BadInput

#: Bytes that a file may have at most: the API takes no larger one, and no model's view holds a larger text.
MOST, MOST_TEXT = 20_000_000, 2_000_000

_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_SOUNDS = {".mp3": "mp3", ".wav": "wav"}


def part_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content part that carries the file. Raises BadInput, OSError."""
    place = Path(path).expanduser()
    if place.is_dir():
        raise BadInput("{path} is a folder: attach its files one by one", path=str(path))
    with place.open("rb") as file:
        data = file.read(MOST + 1)
    return part(data, place.name)


def part(data: bytes, name: str) -> dict[str, Any]:
    """The content part that carries *data*, a file of that name. Raises BadInput."""
    if not data:
        raise BadInput("{path} cannot be attached: it is empty", path=name)
    _check_size(data, MOST, name)
    if mime := _image(data):
        return Multimodal_Part.image(data, mime)
    encoded = base64.b64encode(data).decode("ascii")
    if data.startswith(b"%PDF-"):
        held = {"filename": name, "file_data": f"data:application/pdf;base64,{encoded}"}
        return {"type": "file", "file": held}
    if kind := _SOUNDS.get(Path(name).suffix.lower()):
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": kind}}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadInput(
            "{path} cannot be attached: images (PNG, JPEG, GIF, WebP), PDF, MP3, WAV and UTF-8 text can",
            path=name,
        )
    _check_size(data, MOST_TEXT, name)
    return Multimodal_Part.text(f"{one_line(name)}:\n\n{text}")


def told(part: Mapping[str, Any]) -> str:
    """What a part is, in a word or two for a person."""
    if part.get("type") == "text":
        return clip(one_line(str(part.get("text", "")).partition("\n")[0].rstrip(":")), 40)
    if part.get("type") == "file":
        held = part.get("file")
        return one_line(str(held.get("filename"))) if is_mapping(held) else _("a file")
    return {"image_url": _("an image"), "input_audio": _("a sound")}.get(str(part.get("type")), _("a file"))


def _check_size(data: bytes, most: int, name: str) -> None:
    if len(data) > most:
        raise BadInput(
            "{path} is too large to be attached: {most} MB are the most", path=name, most=most // 1_000_000
        )


def _image(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for start, mime in _IMAGES.items() if data.startswith(start)), None)
