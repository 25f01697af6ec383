"""`export` and `import`: conversations as files.

Rules: a file that is named appears whole or not at all. What is exported goes to standard output unless -o
says otherwise; what is told of it goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import click

from openai2.archive import atomic_file, markdown
from openai2.archive import writer as archive_writer
from openai2.archive.importer import Arrived, Imported
from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.settings.database import engine, existing_engine
from openai2.cli.terminal.i18n import _, counted
from openai2.cli.terminal.progress import Line, progress
from openai2.cli.terminal.text import answer_text, is_terminal, json_safe, note, one_line, out, out_json
from openai2.cli.views.error_text import warn
from openai2.engine import Engine
from openai2.errors import BadInput

EVENTS, MESSAGES, MARKDOWN, HTML = "events", "messages", "markdown", "html"
FORMATS = (EVENTS, MESSAGES, MARKDOWN, HTML)
_ENDINGS = {".json": MESSAGES, ".md": MARKDOWN, ".markdown": MARKDOWN, ".html": HTML, ".htm": HTML}


@click.command(
    "export",
    help=_(
        "Write conversations to standard output, or to a FILE.\n\n"
        "events is an archive, from which `import` gives back the same conversations, versions, times and "
        "hashes; what a fork descends from comes with it. messages is the JSON that the API takes, markdown "
        "is for people, and `import` reads both; they show a single conversation, as it stands or stood "
        "(REF@VERSION). html is a page to look at, with the whole family. Without --format the ending of "
        "FILE says which (.json, .md, .html), else it is events."
    ),
)
@click.argument("ref", nargs=-1, shell_complete=conversations)
@click.option("-o", "--output", metavar="FILE", help=_("Where to; - is standard output."))
@click.option("-f", "--format", "kind", type=click.Choice(FORMATS), help=_("What to write."))
@click.option("-a", "--all", "every", is_flag=True, help=_("All conversations, archived ones too."))
@conversation_option
@db_option
def export(
    ref: tuple[str, ...],
    output: str | None,
    kind: str | None,
    every: bool,
    conversation: str | None,
    db: str | None,
) -> None:
    """Write conversations to a file."""
    if every and ref:
        raise click.UsageError(_("say either which conversations, or --all"))
    path = None if output in (None, "-") else output
    kind = kind or _ENDINGS.get(os.path.splitext(path or "")[1].lower(), EVENTS)
    references = list(ref) or [conversation or ""]
    with existing_engine(db) as opened:
        if kind in (MESSAGES, MARKDOWN):
            _export_view(opened, kind, references, path, every=every)
            return
        if path is None and is_terminal(sys.stdout):
            raise BadInput("this is nothing to read on a terminal: -o FILE says where it is to go")
        ids = None if every else [refs.find_conversation(opened, one or None).id for one in references]
        with progress(_("exporting")) as line:
            _WRITERS[kind](opened, ids, path, line)


def _export_view(
    engine: Engine, kind: str, references: Sequence[str], path: str | None, *, every: bool
) -> None:
    if every or len(references) > 1:
        raise BadInput("{kind} shows one conversation: several go into events", kind=kind)
    place = refs.find(engine, references[0] or None)
    held = place.conversation.view_messages(place.version)
    raw = markdown.format_messages(kind, [(one.message, one.pinned) for one in held])
    if path is None:
        text = raw.decode()
        out(json_safe(text) if kind == MESSAGES else answer_text(text), end="")
        return
    with atomic_file.atomic_write(path) as file:
        file.write(raw)
    size = counted("{n} message", "{n} messages", len(held))
    note(_("{size} written to {path}", size=size, path=path))


def _archive(engine: Engine, ids: list[str] | None, path: str | None, line: Line) -> None:
    done = archive_writer.export(engine.store, ids, path or _stdout(), line)
    _told(line, done.conversations, done.events, len(done.added), path)


def _page(engine: Engine, ids: list[str] | None, path: str | None, line: Line) -> None:
    from openai2.html import export as html_export

    done = html_export.export(engine.store, ids, path or _stdout(), line)
    _told(line, done.conversations, done.events, len(done.added), path)


_Writer = Callable[[Engine, "list[str] | None", "str | None", Line], None]
_WRITERS: dict[str, _Writer] = {EVENTS: _archive, HTML: _page}


def _told(line: Line, conversations: int, events: int, added: int, path: str | None) -> None:
    line.clear()
    what = {
        "events": counted("{n} event", "{n} events", events),
        "streams": counted("{n} conversation", "{n} conversations", conversations),
        "path": path or _("standard output"),
    }
    note(_("{events} of {streams} written to {path}", **what))
    if added:
        note(
            counted(
                "{n} conversation came along, since the others belong to its family",
                "{n} conversations came along, since the others belong to their family",
                added,
            )
        )


def _stdout() -> BinaryIO:
    sys.stdout.flush()
    return sys.stdout.buffer


@click.command(
    "import",
    help=_(
        "Take in a FILE (- is standard input): an archive of `export`, a JSON list of messages, or a "
        "transcript in Markdown. It is verified first, and taken in wholly or not at all; what is here "
        "already is recognised, and a conversation that went on differently on both sides is kept as a "
        "fork. Prints the id of each conversation and what became of it."
    ),
)
@click.argument("file")
@json_option
@db_option
def import_(file: str, as_json: bool, db: str | None) -> None:
    """Take a file in."""
    with _source(file) as source, engine(db) as opened, progress(_("importing")) as line:
        done = opened.import_(source, line)
    if as_json:
        out_json(done)
    else:
        _tell(done)
    if not done.clean:
        warn(
            _(
                "texts that the archive says are redacted may still lie in the file, since somebody else is "
                "reading it: `openai2 scrub` writes it anew"
            )
        )


@contextmanager
def _source(file: str) -> Generator[BinaryIO, None, None]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with open(os.path.expanduser(file), "rb") as source:
        yield source


def _tell(done: Imported) -> None:
    for one in done.conversations:
        out(f"{one.id}  {_became(one)}")
    events = counted("{n} event", "{n} events", done.events)
    note(_("{events} taken in", events=events))
    if done.redacted:
        note(counted("{n} text was redacted here, too", "{n} texts were redacted here, too", done.redacted))


def _became(one: Arrived) -> str:
    events = counted("{n} event", "{n} events", one.events)
    if one.state == "new":
        told = _("new, {events}", events=events)
    elif one.state == "extended":
        told = _("went on, {events}", events=events)
    elif one.state == "diverged":
        told = _(
            "went on differently here: kept as a fork of {origin}@{version}, {events}",
            origin=one.diverged_from or "",
            version=one.common or 0,
            events=events,
        )
    else:
        told = _("was here already")
    return one_line(f"{one.name}: {told}" if one.name else told)


COMMANDS = {"export": export, "import": import_}
