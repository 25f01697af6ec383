"""Commands of the session that have to do with files and the clipboard."""

from __future__ import annotations

import json
import os
from pathlib import Path

from openai2.archive import markdown
from openai2.archive.atomic_file import refuse_database
from openai2.cli.arguments import attachments
from openai2.cli.session.session import Session
from openai2.cli.session.slash import FILES, row
from openai2.cli.terminal import clipboard
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.text import note
from openai2.errors import BadInput, Refused


@row(FILES, "attach", "FILE", _("send this file along with the next question; - for none after all"))
def _attach(session: Session, rest: str) -> None:
    if rest == "-":
        session.attached.clear()
    elif rest:
        session.attached.append(attachments.read_part(_unquoted(rest)))
    names = ", ".join(map(attachments.describe, session.attached))
    note(_("with the next question go: {names}", names=names) if names else _("nothing is attached"))


@row(FILES, "copy", "", _("put the last answer into the clipboard"))
def _copy(session: Session, rest: str) -> None:
    text = session.last_answer()
    if not text:
        raise Refused("there is no answer to copy yet")
    if not clipboard.copy(text):
        raise Refused(
            "nothing here can reach the clipboard: neither this terminal nor wl-copy, xclip, xsel, pbcopy or "
            "clip.exe"
        )
    note(counted("copied: {n} character", "copied: {n} characters", len(text)))


@row(FILES, "save", "FILE", _("write the messages to FILE.json or FILE.md; -f FILE overwrites"))
def _save(session: Session, rest: str) -> None:
    force = rest.startswith("-f ")
    name = _unquoted(rest.removeprefix("-f ") if force else rest)
    path = Path(name).expanduser()
    refuse_database(path)
    held = session.chat.conversation.view_messages()
    if path.suffix.lower() == ".json":
        text = json.dumps([one.message for one in held], ensure_ascii=False, indent=2) + "\n"
    elif path.suffix.lower() in (".md", ".markdown"):
        text = markdown.write([(one.message, one.pinned) for one in held])
    else:
        raise BadInput("say what to write by the name's end: FILE.json or FILE.md")
    try:
        # Written as it is: a translated line end would not be read back as what was said.
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise Refused("{path} is there already: `/save -f {path}` overwrites it", path=name) from None
    size = counted("{n} message", "{n} messages", len(held))
    note(_("{size} written to {path}", size=size, path=os.fspath(path)))


def _unquoted(text: str) -> str:
    """A file's name as it was typed or dropped on the terminal: quotes and backslashes may protect spaces."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text.replace("\\ ", " ") if os.name != "nt" else text
