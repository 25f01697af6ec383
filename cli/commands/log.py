"""`log` and `why`: what happened in a conversation, and what that did to each message.

For programs the events as they are, a JSON object a line; for people as `story` tells them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.settings.database import engine_to_look
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import (
    clip,
    is_terminal,
    local,
    one_line,
    out,
    out_json,
    paint,
    screen,
    visible,
)
from openai2.cli.views.event_text import Layout, Story
from openai2.conversation import Conversation
from openai2.core import messages as msg
from openai2.engine import Engine
from openai2.errors import BadInput
from openai2.history.why import Cause, Why


@click.command(
    "log",
    help=_(
        "Tell what happened in a conversation, the newest last: who said what, what a rollback took away, "
        "and of each answer the model, the key that paid (its fingerprint), tokens and seconds.\n\n"
        "With --json, an object a line: conversation, version, position, type, time, data, hash. With "
        "--follow, what any process appends from now on is told as it comes, until Ctrl-C; with --all as "
        "well, in every conversation. With --graph, the conversation's family is drawn instead: what it "
        "forked from, and what forked from it."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@click.option("-n", "--last", type=click.IntRange(min=0), metavar="N", help=_("Only the last N events."))
@click.option("-f", "--follow", is_flag=True, help=_("Go on with what is appended from now on."))
@click.option("-a", "--all", "every", is_flag=True, help=_("With --follow: of all conversations."))
@click.option("--graph", is_flag=True, help=_("Draw the family, the newest on top."))
@conversation_option
@json_option
@db_option
def log(
    ref: str | None,
    last: int | None,
    follow: bool,
    every: bool,
    graph: bool,
    conversation: str | None,
    as_json: bool,
    db: str | None,
) -> None:
    """Tell what happened."""
    if every and (not follow or graph or last is not None or ref or conversation):
        raise click.UsageError(_("--all is for --follow, without a conversation, --last or --graph"))
    with engine_to_look(db) as engine:
        if every:
            _follow(engine, None, Layout(0), None, as_json=as_json)
            return
        place = refs.find(engine, ref or conversation)
        if graph:
            if follow or last is not None:
                raise click.UsageError(_("--graph draws conversations, and no events"))
            _draw(engine, place.conversation, as_json=as_json)
            return
        if follow and place.version is not None:
            raise BadInput(
                "only the conversation is to be named here, without @{version}", version=place.version
            )
        with engine.store.reading() as reader:
            story = Story(reader, place.conversation.id, place.version)
            layout = Layout(story.last_version)
            lines = list(story.objects(last) if as_json else story.lines(layout, last))
        for line in lines:  # whoever reads slowly keeps no reader of the store waiting
            out(line)
        if follow:
            _follow(engine, place.conversation, layout, story.last_version, as_json=as_json)


def _follow(
    engine: Engine, conversation: Conversation | None, layout: Layout, after: int | None, *, as_json: bool
) -> None:
    """Tell what comes after version *after*; where *conversation* is None, of all, each under its name."""
    told = conversation and conversation.id
    sys.stdout.flush()
    with engine.follow(conversation, after) as following:
        for record in following:
            with engine.store.reading() as reader:
                story = Story(reader, record.conversation, record.version, after=record.version - 1)
                lines = list(story.objects(None) if as_json else story.lines(layout, None))
                listed = reader.conversation(record.conversation)
            if told != record.conversation and not as_json:
                told = record.conversation
                out(paint(one_line((listed and listed.name) or told), "bold"))
            for line in lines:
                out(line)
            sys.stdout.flush()


def _draw(engine: Engine, conversation: Conversation, *, as_json: bool) -> None:
    from openai2.history import fork_graph

    members = engine.family(conversation.id)
    if as_json:
        out_json(members)
        return
    columns = screen() if is_terminal(sys.stdout) else 1_000_000
    for line in fork_graph.drawing(members, conversation.id, columns):
        out(visible(line))


@click.command(
    "why",
    help=_(
        "For each message that was ever added to a conversation: whether it is in view now, and which event "
        "put it in or took it out. + is in view, - was taken out, ? was asked and never joined the view."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@conversation_option
@json_option
@db_option
def why(ref: str | None, conversation: str | None, as_json: bool, db: str | None) -> None:
    """Say why the view is as it is."""
    with engine_to_look(db) as engine:
        opened = refs.find_today(engine, ref or conversation)
        found = engine.why(opened.id)
        if as_json:
            out_json(found)
            return
        columns = screen() if is_terminal(sys.stdout) else 1_000_000
        for one in found:
            for line in reasons(one, opened.id):
                out(clip(line, columns))


def reasons(one: Why, here: str) -> Iterator[str]:
    """A message, and the events that put it in and took it out; *here* is the conversation looked at."""
    said = one_line(f"{one.message.get('role')}: {msg.text_of(one.message)}")
    mark = "+" if one.in_view else "-" if one.put_in is not None else "?"
    yield f"{mark} {said}"
    if one.put_in is None:
        yield "    " + _("never joined the view: its request is open, or failed")
        return
    yield "    " + _("put in by {cause}", cause=_cause(one.put_in, here))
    if not one.in_view and one.taken_out is not None:
        yield "    " + _("taken out by {cause}", cause=_cause(one.taken_out, here))


def _cause(cause: Cause, here: str) -> str:
    place = f"@{cause.version}" if cause.conversation == here else f"{cause.conversation}@{cause.version}"
    return f"{place} {cause.type} ({local(cause.time):%Y-%m-%d %H:%M:%S})"


COMMANDS = {"log": log, "why": why}
