"""Which files can be attached, and as what."""

from __future__ import annotations

import pytest

from openai2.cli.arguments import attachments
from openai2.errors import BadInput

PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (PNG, "x", "image_url"),
        (b"\xff\xd8\xff\xe0", "x.png", "image_url"),
        (b"RIFF\0\0\0\0WEBP", "x", "image_url"),
        (b"%PDF-1.7", "x.pdf", "file"),
        (b"ID3", "x.mp3", "input_audio"),
        ("文".encode(), "x.md", "text"),
    ],
)
def test_attachment_type_follows_from_the_content(data: bytes, name: str, kind: str) -> None:
    part = attachments.to_part(data, name)
    assert part["type"] == kind and attachments.describe(part)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [(b"", "empty"), (b"\x7fELF\0", "cannot attach"), (b"x" * 2_000_001, "larger than")],
)
def test_unsupported_attachment_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        attachments.to_part(data, "thing")
