"""Files attached to a question, as content parts of its message.

Invariants:
- A file that the API has no part for is refused before a request is sent; the error names the file.
- The type is read from the first bytes; the name's ending is used only for sounds.
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

#: The largest file and the largest text, in bytes: limits of the API, and of what a model can read.
MAX_FILE, MAX_TEXT = 20_000_000, 2_000_000

_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
_SOUNDS = {".mp3": "mp3", ".wav": "wav"}


def read_part(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a file as a content part. Raises BadInput, OSError."""
    place = Path(path).expanduser()
    if place.is_dir():
        raise BadInput("{path} is a folder: attach its files one by one", path=str(path))
    with place.open("rb") as file:
        data = file.read(MAX_FILE + 1)
    return to_part(data, place.name)


def to_part(data: bytes, name: str) -> dict[str, Any]:
    """Return *data*, the content of a file called *name*, as a content part. Raises BadInput."""
    if not data:
        raise BadInput("cannot attach {path}: it is empty", path=name)
    _check_size(data, MAX_FILE, name)
    if mime := _image_type(data):
        return Multimodal_Part.image(data, mime)
    encoded = base64.b64encode(data).decode("ascii")
    if data.startswith(b"%PDF-"):
        file = {"filename": name, "file_data": f"data:application/pdf;base64,{encoded}"}
        return {"type": "file", "file": file}
    if format_ := _SOUNDS.get(Path(name).suffix.lower()):
        return {"type": "input_audio", "input_audio": {"data": encoded, "format": format_}}
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadInput(
            "cannot attach {path}: expected an image (PNG, JPEG, GIF, WebP), PDF, MP3, WAV or UTF-8 text",
            path=name,
        )
    _check_size(data, MAX_TEXT, name)
    return Multimodal_Part.text(f"{one_line(name)}:\n\n{text}")


def describe(part: Mapping[str, Any]) -> str:
    """Return a short text for a person: the name of a file, or the kind of content."""
    if part.get("type") == "text":
        return clip(one_line(str(part.get("text", "")).partition("\n")[0].rstrip(":")), 40)
    if part.get("type") == "file":
        file = part.get("file")
        return one_line(str(file.get("filename"))) if is_mapping(file) else _("a file")
    return {"image_url": _("an image"), "input_audio": _("a sound")}.get(str(part.get("type")), _("a file"))


def _check_size(data: bytes, limit: int, name: str) -> None:
    if len(data) > limit:
        raise BadInput(
            "cannot attach {path}: it is larger than {most} MB", path=name, most=limit // 1_000_000
        )


def _image_type(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for start, mime in _IMAGES.items() if data.startswith(start)), None)
