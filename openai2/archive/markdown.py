"""Transcripts: a conversation's messages as Markdown that a person reads and `import` takes back exactly.

    <!-- openai2 transcript 1 -->

    ## user

    What is a fork?

    ## assistant (pinned)

    A stream whose first event names a parent.

Rules: a heading names the role; what follows, less one empty line before it and one after, is the text,
unchanged. A line of the text that could be taken for a heading of ours has a backslash before it, and so has
one that begins with backslashes and then such a heading. Fences need no care, since we do not read them. A
message that is more than a role and a text is a block of JSON under a heading that says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from openai2.core import messages as msg
from openai2.errors import ArchiveError, BadInput, NotAMessage

HEADER = "<!-- openai2 transcript 1 -->"
_HEADING = re.compile(r"## ([A-Za-z0-9_-]+)( as JSON)?( \(pinned\))?")
_ESCAPED = re.compile(r"\\*## ")
_FENCE = "```json"


def check(form: str, conversations: Sequence[str]) -> None:
    """Raise BadInput where *form* is none of ours, or is not of one conversation."""
    if form not in ("messages", "markdown"):
        raise BadInput("the format is events, messages or markdown, not {format}", format=form)
    if len(conversations) != 1:
        raise BadInput("the format {format} holds one conversation, not {count}", format=form,
                       count=len(conversations) or "all")  # fmt: skip


def told(form: str, messages: Sequence[tuple[msg.Message, bool]]) -> bytes:
    """These (message, pinned) as "messages", a JSON list, or as "markdown"."""
    if form == "markdown":
        return write(messages).encode()
    plain = [message for message, _ in messages]
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def write(messages: Sequence[tuple[msg.Message, bool]]) -> str:
    """These (message, pinned) as Markdown."""
    parts = [HEADER + "\n"]
    for message, pinned in messages:
        role, mark = message["role"], " (pinned)" if pinned else ""
        if _plain(message):
            lines = message["content"].split("\n")
            told = "\n".join("\\" + line if _ESCAPED.match(line) else line for line in lines)
            parts.append(f"\n## {role}{mark}\n\n{told}\n")
        else:
            body = msgspec.json.encode(message).decode()
            shown = role if re.fullmatch(r"[A-Za-z0-9_-]+", role) else "message"
            parts.append(f"\n## {shown} as JSON{mark}\n\n{_FENCE}\n{body}\n```\n")
    return "".join(parts)


def _plain(message: msg.Message) -> bool:
    role, content = message["role"], message.get("content")
    if not isinstance(content, str) or len(message) != 2 or list(message) != ["role", "content"]:
        return False
    # A lone carriage return would be bent by whoever opens the file as text.
    return "\r" not in content and re.fullmatch(r"[A-Za-z0-9_-]+", role) is not None


def read(text: str) -> tuple[list[bytes], list[int]]:
    """The messages of a transcript, encoded, and the places of those that are pinned.

    Raises ArchiveError where it is none.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0] != HEADER:
        if lines[0].startswith("<!-- openai2 transcript"):
            raise ArchiveError("the transcript was written by a newer openai2: update openai2")
        raise ArchiveError("this is no archive of openai2, no list of messages and no transcript")
    found: list[Any] = []
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
                pins.append(len(found))
            found.append(_message(heading, body, last=line is None))
        heading, body = match, []
    try:
        return msg.encode_all(found), pins
    except NotAMessage as fault:
        raise ArchiveError("the transcript holds what is no message: {reason}", reason=str(fault)) from None


def _message(heading: re.Match[str], body: list[str], last: bool) -> Any:
    # One empty line stands before the text; after it the line's end and one before the next heading.
    start = 1 if body and not body[0] else 0
    stop = len(body) - (1 if body and not body[-1] else 0)
    lines = body[start : max(start, stop)]
    if heading[2]:
        return _json(heading[1], lines)
    content = "\n".join(line[1:] if line[:1] == "\\" and _ESCAPED.match(line) else line for line in lines)
    return {"role": heading[1], "content": content}


def _json(role: str, lines: list[str]) -> Any:
    inner = "\n".join(lines).strip()
    if not inner.startswith(_FENCE) or not inner.endswith("```"):
        raise ArchiveError("the transcript's {role} message as JSON is no fenced block", role=role)
    try:
        return msgspec.json.decode(inner[len(_FENCE) : -3])
    except (msgspec.DecodeError, RecursionError) as fault:
        raise ArchiveError(
            "the transcript's {role} message as JSON cannot be read: {reason}", role=role, reason=str(fault)
        ) from None
