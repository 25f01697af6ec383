r"""Transcripts: the messages of a conversation as Markdown, which `import` reads back without loss.

    <!-- openai2 transcript 1 -->

    ## user

    What is a fork?

    ## assistant (pinned)

    A stream whose first event names a parent.

Invariants:
- A heading names the role. The text follows, unchanged, with one empty line before it and one after.
- A line of text gets a backslash in front if it looks like a heading, or like backslashes and a heading.
- A message with more than a role and a text is a block of JSON, under a heading that says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from openai2.core import messages as msg
from openai2.errors import ArchiveError, BadInput, NotAMessage

HEADER = "<!-- openai2 transcript 1 -->"
_ROLE = re.compile(r"[A-Za-z0-9_-]+")
_HEADING = re.compile(r"## ([A-Za-z0-9_-]+)( as JSON)?( \(pinned\))?")
_ESCAPED = re.compile(r"\\*## ")
_FENCE = "```json"


def check_format(format: str, conversations: Sequence[str]) -> None:
    """Raise BadInput if *format* is unknown, or if there is not exactly one conversation."""
    if format not in ("messages", "markdown"):
        raise BadInput("the format is events, messages or markdown, not {format}", format=format)
    if len(conversations) != 1:
        raise BadInput(
            "the format {format} holds one conversation, not {count}",
            format=format,
            count=len(conversations) or "all",
        )


def format_messages(format: str, messages: Sequence[tuple[msg.Message, bool]]) -> bytes:
    """Return (message, is pinned) pairs as "messages", a JSON list without the pins, or as "markdown"."""
    if format == "markdown":
        return write(messages).encode()
    plain = [message for message, _ in messages]
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def write(messages: Sequence[tuple[msg.Message, bool]]) -> str:
    """Return (message, is pinned) pairs as a transcript."""
    parts = [HEADER + "\n"]
    for message, is_pinned in messages:
        role, mark = message["role"], " (pinned)" if is_pinned else ""
        if _is_plain(message):
            lines = message["content"].split("\n")
            text = "\n".join("\\" + line if _ESCAPED.match(line) else line for line in lines)
            parts.append(f"\n## {role}{mark}\n\n{text}\n")
        else:
            body = msgspec.json.encode(message).decode()
            title = role if _ROLE.fullmatch(role) else "message"
            parts.append(f"\n## {title} as JSON{mark}\n\n{_FENCE}\n{body}\n```\n")
    return "".join(parts)


def _is_plain(message: msg.Message) -> bool:
    if list(message) != ["role", "content"] or not isinstance(message["content"], str):
        return False
    # Text files opened with universal newlines turn a lone carriage return into a line feed.
    return "\r" not in message["content"] and _ROLE.fullmatch(message["role"]) is not None


def read(text: str) -> tuple[list[bytes], list[int]]:
    """Return the encoded messages of a transcript, and the indexes of pinned ones. Raises ArchiveError."""
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0] != HEADER:
        if lines[0].startswith("<!-- openai2 transcript"):
            raise ArchiveError("the transcript was written by a newer openai2: update openai2")
        raise ArchiveError("the file is not an openai2 archive, a list of messages or a transcript")
    messages: list[Any] = []
    pins: list[int] = []
    heading: re.Match[str] | None = None
    body: list[str] = []
    for line in [*lines[1:], None]:
        match = None if line is None else _HEADING.fullmatch(line)
        if match is None and line is not None:
            if heading is None and line.strip():
                raise ArchiveError("the transcript does not begin with a heading that names a role")
            body.append(line)
            continue
        if heading is not None:
            if heading[3]:
                pins.append(len(messages))
            messages.append(_read_message(heading, body))
        heading, body = match, []
    try:
        return msg.encode_all(messages), pins
    except NotAMessage as error:
        raise ArchiveError("the transcript has an invalid message: {reason}", reason=str(error)) from None


def _read_message(heading: re.Match[str], body: list[str]) -> Any:
    # Drop the empty line before the text, and the one before the next heading or the end.
    start = 1 if body and not body[0] else 0
    stop = len(body) - (1 if body and not body[-1] else 0)
    lines = body[start : max(start, stop)]
    if heading[2]:
        return _read_json(heading[1], lines)
    content = "\n".join(line[1:] if line[:1] == "\\" and _ESCAPED.match(line) else line for line in lines)
    return {"role": heading[1], "content": content}


def _read_json(role: str, lines: list[str]) -> Any:
    block = "\n".join(lines).strip()
    if not block.startswith(_FENCE) or not block.endswith("```"):
        raise ArchiveError("the transcript's {role} message as JSON is not in a fenced block", role=role)
    try:
        return msgspec.json.decode(block[len(_FENCE) : -3])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ArchiveError(
            "the transcript's {role} message as JSON cannot be decoded: {reason}",
            role=role,
            reason=str(error),
        ) from None
