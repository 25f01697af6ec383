"""The cassette file: the exchanges of a program with the API, as JSON Lines to read, review and replay.

Invariants:
- The first line is `{"openai2 recording": 1}`. Each exchange has a line for the request, for the head of the
  response, for each piece of its body, and for the failure that ended the connection, if any.
- No key is in the file: of headers only the content type is kept, of URLs only the path, and a key that a
  body repeats is replaced.
- Pieces are restored to the byte. A piece is written as JSON if it is one event of a stream or a JSON body,
  otherwise as text, or as base64 if it is not UTF-8.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from openai2.archive.atomic_file import refuse_database
from openai2.core.typeguards import is_dict
from openai2.errors import RecordingError

VERSION = 1
_HEAD = "openai2 recording"
encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True):
    """A request. *body* is decoded JSON, or the size and SHA-256 of a body that is not JSON."""

    method: str
    path: str
    body: Any = None


class Response(msgspec.Struct):
    """A response: the pieces of its body, and the name and message of the error that ended it, if any."""

    status: int = 0
    content_type: str = ""
    pieces: list[bytes] = []
    failure: tuple[str, str] | None = None


class Exchange(msgspec.Struct):
    """A request and its response. *place*: where it is recorded; *ignore*: fields that were not recorded."""

    request: Request
    response: Response
    place: str = ""
    ignore: tuple[str, ...] = ()


def body_of(content: bytes, content_type: str) -> Any:
    """Return the body of a request as it is recorded."""
    if not content:
        return None
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError):
        boundary = re.search("boundary=([^;]+)", content_type)  # random in each request
        if boundary:
            content = content.replace(boundary[1].strip('"').encode(), b"boundary")
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


# -- writing


def write(path: Path, exchanges: Iterable[Exchange]) -> None:
    """Write the exchanges to a file, all or nothing. Raises BadInput if it is a database."""
    refuse_database(path)
    lines = [encode({_HEAD: VERSION})]
    for exchange in exchanges:
        response = exchange.response
        lines.append(encode({"request": exchange.request}))
        if response.status:
            head = {"status": response.status, "content_type": response.content_type}
            lines.append(encode({"response": head}))
        lines += [encode({"piece": piece}) for piece in _written_pieces(response)]
        if response.failure is not None:
            lines.append(encode({"failure": response.failure}))
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    new.write_bytes(b"\n".join(lines) + b"\n")
    new.replace(path)


def _written_pieces(response: Response) -> Iterator[Any]:
    if "json" in response.content_type:
        try:
            yield {"json": msgspec.json.decode(b"".join(response.pieces))}
            return
        except (ValueError, RecursionError):
            pass
    for piece in response.pieces:
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            yield {"base64": base64.b64encode(piece).decode()}
            continue
        event = re.fullmatch(r"data: (\{.*\})\n\n", text)
        try:
            data = msgspec.json.decode(event[1]) if event else None
        except (ValueError, RecursionError):
            data = None
        yield {"data": data} if data is not None and _event(data) == piece else text


def _event(data: Any) -> bytes:
    return b"data: " + encode(data) + b"\n\n"


# -- reading


def read(path: Path) -> list[Exchange]:
    """Return the exchanges of a file. Raises RecordingError if it is not a complete recording."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as fault:
        raise RecordingError("{path} cannot be read: {reason}", path=path, reason=fault.strerror) from fault
    exchanges: list[Exchange] = []
    for number, line in enumerate(lines, 1):
        try:
            entry: Any = msgspec.json.decode(line)
            if number == 1:
                _check_version(entry[_HEAD], path)
            else:
                _read_entry(exchanges, entry, f"{path.name}, line {number}")
        except (ValueError, KeyError, TypeError, IndexError, RecursionError) as fault:
            if isinstance(fault, RecordingError):
                raise
            raise RecordingError(
                "{path} is not a recording of openai2: line {line} is invalid", path=path, line=number
            ) from fault
    if not exchanges:
        raise RecordingError("the recording {path} is empty: set OPENAI2_RECORD=1 to record again", path=path)
    if any(not exchange.response.status and not exchange.response.failure for exchange in exchanges):
        raise RecordingError("the recording {path} is cut off: a request has no response", path=path)
    return exchanges


def _check_version(version: Any, path: Path) -> None:
    if not isinstance(version, int) or version > VERSION:
        raise RecordingError(
            "the recording {path} was written by a newer openai2: expected format {known} or lower, got "
            "{found}; upgrade openai2, or record again",
            path=path,
            found=version,
            known=VERSION,
        )


def _read_entry(exchanges: list[Exchange], entry: dict[str, Any], place: str) -> None:
    ((name, value),) = entry.items()
    if name == "request":
        exchanges.append(Exchange(msgspec.convert(value, Request), Response(pieces=[]), place))
        return
    response = exchanges[-1].response
    if name == "response":
        response.status, response.content_type = int(value["status"]), str(value["content_type"])
    elif name == "piece":
        response.pieces.append(_read_piece(value))
    elif name == "failure":
        response.failure = (str(value[0]), str(value[1]))
    else:
        raise ValueError(name)


def _read_piece(piece: Any) -> bytes:
    if not is_dict(piece):
        return str(piece).encode()
    if "json" in piece:
        return encode(piece["json"])
    return _event(piece["data"]) if "data" in piece else base64.b64decode(piece["base64"])
