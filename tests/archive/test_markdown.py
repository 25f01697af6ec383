"""Lists of messages and transcripts: what is written is read back exactly."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2 import BadInput, Engine, system_msg, user_msg
from openai2.archive import markdown
from tests.support.stores import busy


def test_imported_list_of_messages_is_undone_in_one_step(engine: Engine) -> None:
    messages = [
        system_msg("s"),
        user_msg("ü"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ]
    report = engine.import_(io.BytesIO(json.dumps(messages, indent=2).encode()))
    conversation = engine.open(report.conversations[0].id)
    assert conversation.messages() == messages
    conversation.undo()
    assert not conversation.messages()
    assert engine.verify().ok


_TEXTS = [
    *("", "\n", "\n\n", "## user", "\\## user", "a\n## assistant (pinned)\n\nb", "```\n## user\n"),
    *("```json\n{}\n```", " ## user", "##user", "x\n\n", "\n\nx", "\\", "\\\\## x as JSON", "a\r\nb"),
    "<!-- openai2 transcript 1 -->",
]


@st.composite
def _message(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    text = draw(st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(_TEXTS))
    role = draw(st.sampled_from(["user", "assistant", "strange röle"]))
    message: dict[str, Any] = {"role": role, "content": text}
    if draw(st.booleans()):
        message = {"role": role, "content": [{"type": "text", "text": text}], "name": text}
    return message, draw(st.booleans())


@given(st.lists(_message(), max_size=5))
def test_transcript_is_read_back_exactly(messages: list[tuple[dict[str, Any], bool]]) -> None:
    encoded, pins = markdown.read(markdown.write(messages))
    assert [msgspec.json.decode(raw) for raw in encoded] == [message for message, _ in messages]
    assert pins == [index for index, (_, is_pinned) in enumerate(messages) if is_pinned]


def test_transcript_is_imported_with_its_pins() -> None:
    with Engine() as here, Engine() as there:
        main = busy(here)["main"]
        main.pin(0)
        text = markdown.write([(held.message, held.pinned) for held in main.view_messages()])
        report = there.import_(io.BytesIO(text.encode()))
        copy = there.open(report.conversations[0].id)
        assert copy.messages() == main.messages()
        assert [held.pinned for held in copy.view_messages()] == [
            held.pinned for held in main.view_messages()
        ]
        copy.undo()
        assert not copy.messages()
        assert there.verify().ok


def test_view_as_messages_or_markdown_is_read_back() -> None:
    with Engine() as here, Engine() as there:
        main = busy(here)["main"]
        for form in ("messages", "markdown"):
            out = io.BytesIO()
            here.export(["main"], file=out, format=form)
            report = there.import_(io.BytesIO(out.getvalue()))
            assert there.open(report.conversations[0].id).messages() == main.messages()
        for names, form in (([], "messages"), (["main", "side"], "markdown"), (["main"], "word")):
            with pytest.raises(BadInput):
                here.export(names, file=io.BytesIO(), format=form)
