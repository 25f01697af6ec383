"""Travelling by time, in programs as in the command."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from openai2 import BadInput, Chat, UnknownVersion, user_msg
from openai2.core import times


def test_moment_is_the_end_of_the_named_time() -> None:
    assert times.moment("2026-11-22T10:05Z") == "2026-11-22T10:05:59.999999Z"
    assert times.moment("2026-11-22T10:05:07+02:00") == "2026-11-22T08:05:07.999999Z"
    assert times.moment("2026-11-22T10:05:07.25Z") == "2026-11-22T10:05:07.250000Z"


def test_at_returns_the_view_at_a_time() -> None:
    with Chat("sk-0") as chat:
        chat.add_dialogs(user_msg("first"))
        then = [record.time for record in chat.events()][-1]
        chat.add_dialogs(user_msg("second"))
        assert [message["content"] for message in chat.at(then)] == ["first"]
        now = datetime.now(timezone.utc) + timedelta(seconds=1)
        assert len(chat.at(now)) == len(chat.at(now.isoformat())) == 2
        with pytest.raises(UnknownVersion, match="did not exist yet"):
            chat.at("2001-01-01")
        with pytest.raises(BadInput, match="cannot parse yesterday as a time"):
            chat.at("yesterday")
        with pytest.raises(UnknownVersion):
            chat.at(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
