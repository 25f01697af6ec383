"""The cassette file: pieces are restored to the byte, and invalid files are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai2.errors import RecordingError
from openai2.recording.format import Exchange, Request, Response, read, write
from openai2.testing import recorded


@pytest.mark.parametrize(
    "pieces",
    [
        [b'data: {"a":1}\n\n', b"data: [DONE]\n\n"],
        [b'data: {"a": 1}\n\nda', b'ta: {"a":"\xe4', b'\xb8\xad"}\n\n'],
        [b"\xff\xfe", b""],
        [b'data: {"n":1e400}\n\n', b'data: {"a":1,"a":2}\n\n'],
    ],
)
def test_pieces_are_restored_to_the_byte(pieces: list[bytes], tmp_path: Path) -> None:
    response = Response(200, "text/event-stream", pieces, ("ReadError", "cut"))
    write(tmp_path / "x.jsonl", [Exchange(Request("POST", "/v1", {"b": 1}), response)])
    (found,) = read(tmp_path / "x.jsonl")
    assert found.response == response


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'{"openai2 recording":1}\n', "is empty"),
        (b'{"openai2 recording":2}\n', "written by a newer openai2"),
        (b'{"openai2 recording":1}\n{"request":{"method":"POST","path":"/"}}\n', "is cut off"),
        (b'{"openai2 recording":1}\n{"what":1}\n', "line 2 is invalid"),
        (b'{"openai2 recording":1}\nnonsense\n', "line 2 is invalid"),
        (b"SQLite format 3\0", "line 1 is invalid"),
    ],
)
def test_invalid_file_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=message):
        recorded(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        recorded(tmp_path / "none.jsonl", record=False)
    with pytest.raises(RecordingError, match="no request was made"), recorded(tmp_path / "new.jsonl"):
        pass
