"""`export` and `import`: write conversations to files, and read them back.

Invariants:
- A file given with -o is written completely or not at all.
- Without -o the export goes to standard output; the summary always goes to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
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
from openai2.cli.terminal.progress import progress
from openai2.cli.terminal.text import (
    answer_text,
    is_terminal,
    json_safe,
    note,
    one_line,
    out,
    out_json,
    visible,
)
from openai2.cli.views.error_text import warn
from openai2.engine import Engine
from openai2.errors import BadInput

EVENTS, MESSAGES, MARKDOWN, HTML = "events", "messages", "markdown", "html"
_FORMATS = (EVENTS, MESSAGES, MARKDOWN, HTML)
_BY_ENDING = {".json": MESSAGES, ".md": MARKDOWN, ".markdown": MARKDOWN, ".html": HTML, ".htm": HTML}


@click.command(
    "export",
    help=_(
        "Write conversations to standard output or to FILE. The formats are:\n\n"
        "events: an archive from which `import` restores the same conversations, versions, times and hashes; "
        "it includes the conversations that a fork descends from. messages: JSON as the API uses it. "
        "markdown: text for people. Both contain one conversation, now or at REF@VERSION, and `import` reads "
        "them. html: a page with the conversation and all related forks. Without --format, the ending of "
        "FILE selects the format (.json, .md, .html); otherwise it is events."
    ),
)
@click.argument("ref", nargs=-1, shell_complete=conversations)
@click.option("-o", "--output", metavar="FILE", help=_("Write to FILE; - is standard output."))
@click.option("-f", "--format", "format_", type=click.Choice(_FORMATS), help=_("Write this format."))
@click.option("-a", "--all", "every", is_flag=True, help=_("Export all conversations, also archived ones."))
@conversation_option
@db_option
def export(
    ref: tuple[str, ...],
    output: str | None,
    format_: str | None,
    every: bool,
    conversation: str | None,
    db: str | None,
) -> None:
    """Write conversations to a file."""
    if every and ref:
        raise click.UsageError(_("give either conversations or --all"))
    path = None if output in (None, "-") else output
    format_ = format_ or _BY_ENDING.get(os.path.splitext(path or "")[1].lower(), EVENTS)
    references = list(ref) or [conversation or ""]
    with existing_engine(db) as opened:
        if format_ in (MESSAGES, MARKDOWN):
            _export_view(opened, format_, references, path, every=every)
            return
        if path is None and is_terminal(sys.stdout):
            raise BadInput("this format is not meant for a terminal: give a file with -o FILE")
        ids = None if every else [refs.find_conversation(opened, item or None).id for item in references]
        _export_streams(opened, format_, ids, path)


def _export_view(
    engine: Engine, format_: str, references: Sequence[str], path: str | None, *, every: bool
) -> None:
    if every or len(references) > 1:
        raise BadInput("{kind} contains one conversation: use events for several", kind=format_)
    place = refs.find(engine, references[0] or None)
    messages = place.conversation.view_messages(place.version)
    raw = markdown.format_messages(format_, [(item.message, item.pinned) for item in messages])
    if path is None:
        text = raw.decode()
        out(json_safe(text) if format_ == MESSAGES else answer_text(text), end="")
        return
    with atomic_file.atomic_write(path) as file:
        file.write(raw)
    size = counted("{n} message", "{n} messages", len(messages))
    note(_("wrote {size} to {path}", size=size, path=path))


def _export_streams(engine: Engine, format_: str, ids: list[str] | None, path: str | None) -> None:
    sys.stdout.flush()
    target = path or sys.stdout.buffer
    with progress(_("exporting")) as line:
        if format_ == HTML:
            from openai2.html import export as html_export

            done = html_export.export(engine.store, ids, target, line)
            conversations, events, added = done.conversations, done.events, len(done.added)
        else:
            written = archive_writer.export(engine.store, ids, target, line)
            conversations, events, added = written.conversations, written.events, len(written.added)
    note(
        _(
            "wrote {events} of {streams} to {path}",
            events=counted("{n} event", "{n} events", events),
            streams=counted("{n} conversation", "{n} conversations", conversations),
            path=path or _("standard output"),
        )
    )
    if added:
        note(
            counted(
                "included {n} more conversation, which is related by forks",
                "included {n} more conversations, which are related by forks",
                added,
            )
        )


@click.command(
    "import",
    help=_(
        "Import FILE (- is standard input): an archive from `export`, a JSON list of messages, or a "
        "transcript in Markdown. The file is verified first and imported completely or not at all. "
        "Conversations that exist already are recognised; one that has changed on both sides is kept as a "
        "fork. Prints the id of each conversation and what was done with it."
    ),
)
@click.argument("file")
@json_option
@db_option
def import_(file: str, as_json: bool, db: str | None) -> None:
    """Import a file."""
    with _open_source(file) as source, engine(db) as opened, progress(_("importing")) as line:
        imported = opened.import_(source, line)
    if as_json:
        out_json(imported)
    else:
        _print_result(imported)
    if not imported.clean:
        warn(
            _(
                "texts that the archive marks as redacted may remain in the database file, because another "
                "process is reading it: run `openai2 scrub` later"
            )
        )


@contextmanager
def _open_source(file: str) -> Generator[BinaryIO, None, None]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with open(os.path.expanduser(file), "rb") as source:
        yield source


def _print_result(imported: Imported) -> None:
    for arrived in imported.conversations:
        out(f"{visible(arrived.id)}  {_outcome(arrived)}")
    note(_("imported {events}", events=counted("{n} event", "{n} events", imported.events)))
    if imported.redacted:
        note(
            counted("{n} text was redacted here, too", "{n} texts were redacted here, too", imported.redacted)
        )


def _outcome(arrived: Arrived) -> str:
    events = counted("{n} event", "{n} events", arrived.events)
    if arrived.state == "new":
        outcome = _("new, {events}", events=events)
    elif arrived.state == "extended":
        outcome = _("extended by {events}", events=events)
    elif arrived.state == "diverged":
        outcome = _(
            "diverged: kept as a fork of {origin}@{version}, {events}",
            origin=arrived.diverged_from or "",
            version=arrived.common or 0,
            events=events,
        )
    else:
        outcome = _("existed already")
    return one_line(f"{arrived.name}: {outcome}" if arrived.name else outcome)


COMMANDS = {"export": export, "import": import_}
