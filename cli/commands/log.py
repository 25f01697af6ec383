"""`log` and `why`: the events of a conversation, and what they did to each message."""

from __future__ import annotations

import sys

import click

from openai2.cli.arguments import refs
from openai2.cli.arguments.completions import conversations
from openai2.cli.arguments.options import conversation_option, db_option, json_option
from openai2.cli.settings.database import existing_engine
from openai2.cli.terminal.i18n import _
from openai2.cli.terminal.text import one_line, out, out_json, output_columns, paint, visible
from openai2.cli.views.event_text import EventLog, Layout
from openai2.conversation import Conversation
from openai2.engine import Engine
from openai2.errors import BadInput


@click.command(
    "log",
    help=_(
        "Show the events of a conversation, the newest last: messages, rollbacks and what they removed, and "
        "for each answer the model, the fingerprint of the key, tokens and seconds.\n\n"
        "With --json, print one object a line: conversation, version, position, type, time, data, hash. With "
        "--follow, also show the events that any process appends from now on, until Ctrl-C; add --all to "
        "follow every conversation. With --graph, draw the forks instead: what the conversation was forked "
        "from, and what was forked from it."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@click.option("-n", "--last", type=click.IntRange(min=0), metavar="N", help=_("Show only the last N events."))
@click.option("-f", "--follow", is_flag=True, help=_("Show new events as they are appended."))
@click.option("-a", "--all", "every", is_flag=True, help=_("With --follow: follow all conversations."))
@click.option("--graph", is_flag=True, help=_("Draw the graph of forks, the newest on top."))
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
    """Show the events."""
    if every and (not follow or graph or last is not None or ref or conversation):
        raise click.UsageError(_("--all goes with --follow, without a conversation, --last or --graph"))
    with existing_engine(db) as engine:
        if every:
            _follow(engine, None, Layout(0), None, as_json=as_json)
            return
        place = refs.find(engine, ref or conversation)
        if graph:
            if follow or last is not None:
                raise click.UsageError(_("--graph draws no events: leave out --follow and --last"))
            _draw_graph(engine, place.conversation, as_json=as_json)
            return
        if follow and place.version is not None:
            raise BadInput("name the conversation only, without @{version}", version=place.version)
        with engine.store.reading() as reader:
            events = EventLog(reader, place.conversation.id, place.version)
            layout = Layout(events.last_version)
            lines = list(events.json_lines(last) if as_json else events.lines(layout, last))
        for line in lines:  # printed after the reader is closed: a slow pipe must not block checkpoints
            out(line)
        if follow:
            _follow(engine, place.conversation, layout, events.last_version, as_json=as_json)


def _follow(
    engine: Engine, conversation: Conversation | None, layout: Layout, after: int | None, *, as_json: bool
) -> None:
    """Print the events after version *after* as they are appended.

    Without *conversation*, print those of all conversations, under their names.
    """
    heading = conversation and conversation.id
    sys.stdout.flush()
    with engine.follow(conversation, after) as following:
        for record in following:
            with engine.store.reading() as reader:
                events = EventLog(reader, record.conversation, record.version, after=record.version - 1)
                lines = list(events.json_lines(None) if as_json else events.lines(layout, None))
                listed = reader.conversation(record.conversation)
            if heading != record.conversation and not as_json:
                heading = record.conversation
                out(paint(one_line((listed and listed.name) or heading), "bold"))
            for line in lines:
                out(line)
            sys.stdout.flush()


def _draw_graph(engine: Engine, conversation: Conversation, *, as_json: bool) -> None:
    from openai2.history import fork_graph

    members = engine.family(conversation.id)
    if as_json:
        out_json(members)
        return
    for line in fork_graph.drawing(members, conversation.id, output_columns()):
        out(visible(line))


@click.command(
    "why",
    help=_(
        "Show, for each message that was ever added to a conversation, whether it is in view, and which "
        "event added or removed it. + is in view, - was removed, ? was asked and never joined the view."
    ),
)
@click.argument("ref", required=False, shell_complete=conversations)
@conversation_option
@json_option
@db_option
def why(ref: str | None, conversation: str | None, as_json: bool, db: str | None) -> None:
    """Show why the view is as it is."""
    from openai2.cli.views.why import why_lines

    with existing_engine(db) as engine:
        opened = refs.find_conversation(engine, ref or conversation)
        reasons = engine.why(opened.id)
        if as_json:
            out_json(reasons)
            return
        for line in why_lines(reasons, opened.id):
            out(line)


COMMANDS = {"log": log, "why": why}
