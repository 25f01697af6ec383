"""Slash commands for files and the clipboard."""

from __future__ import annotations

import json
import os
from pathlib import Path

from openai2.archive import markdown
from openai2.archive.atomic_file import refuse_database
from openai2.cli.arguments import attachments
from openai2.cli.session.session import Session
from openai2.cli.session.slash import FILES, command
from openai2.cli.terminal import clipboard
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import note
from openai2.errors import BadInput, Refused


@command(FILES, "attach", "FILE", _("attach this file to the next question; - removes all attachments"))
def _attach(session: Session, argument: str) -> None:
    if argument == "-":
        session.attached.clear()
    elif argument:
        session.attached.append(attachments.read_part(_unquoted(argument)))
    names = ", ".join(map(attachments.describe, session.attached))
    note(_("attached to the next question: {names}", names=names) if names else _("nothing is attached"))


@command(FILES, "copy", "", _("copy the last answer to the clipboard"))
def _copy(session: Session, argument: str) -> None:
    text = session.last_answer()
    if not text:
        raise Refused("there is no answer to copy yet")
    if not clipboard.copy(text):
        raise Refused(
            "cannot reach the clipboard: neither this terminal nor wl-copy, xclip, xsel, pbcopy or clip.exe "
            "provides it"
        )
    note(counted("copied: {n} character", "copied: {n} characters", len(text)))


@command(FILES, "save", "FILE", _("write the messages to FILE.json or FILE.md; -f FILE overwrites"))
def _save(session: Session, argument: str) -> None:
    force = argument.startswith("-f ")
    name = _unquoted(argument.removeprefix("-f ") if force else argument)
    path = Path(name).expanduser()
    refuse_database(path)
    items = session.chat.conversation.view_messages()
    if path.suffix.lower() == ".json":
        text = json.dumps([item.message for item in items], ensure_ascii=False, indent=2) + "\n"
    elif path.suffix.lower() in (".md", ".markdown"):
        text = markdown.write([(item.message, item.pinned) for item in items])
    else:
        raise BadInput('expected a name that ends in .json or .md, got "{name}"', name=name)
    try:
        # No newline translation: the file must read back as the same messages.
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise Refused("{path} already exists: `/save -f {path}` overwrites it", path=name) from None
    size = counted("{n} message", "{n} messages", len(items))
    note(_("{size} written to {path}", size=size, path=os.fspath(path)))


def _unquoted(text: str) -> str:
    """Return a typed or dropped file name without the quotes or backslashes that protect its spaces."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text.replace("\\ ", " ") if os.name != "nt" else text
