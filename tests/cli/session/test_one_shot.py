"""One question from the shell: by argument, by pipe, and what goes wrong."""

from __future__ import annotations

import json

import pytest

from openai2.offline import OfflineServer
from tests.support.cli import KEY, invoke, ok, refused, run, shown
from tests.support.misbehaving_server import Misbehaving, error, whole


def test_question_comes_by_argument_or_by_pipe() -> None:
    first = run("newchat", "--offline", "自然数50的后面是几?")
    assert (first.returncode, first.stdout) == (0, "51\n")
    assert "not a language model" in first.stderr
    second = run("chat", "--offline", input="再往后是几?\n")
    assert (second.returncode, second.stdout) == (0, "52\n")


def test_argument_precedes_the_piped_text(server: OfflineServer) -> None:
    ok("newchat", "总结：", input="第一行\n第二行\n\n")
    assert shown()[0] == "总结：\n\n第一行\n第二行"


def test_piped_text_is_kept_except_for_final_line_ends(server: OfflineServer) -> None:
    text = "\ta\0b\x1b[31m\r\n ünïcode 😀"
    answer = invoke("newchat", input=text + "\r\n\n").stdout_bytes.decode()
    assert shown()[0] == text
    assert text in answer, "a program gets the answer verbatim"


@pytest.mark.parametrize(
    ("input", "reason"), [("", "empty"), (" \n", "empty"), (b"\xff\xfe", "UTF-8"), (b"ab\xff", "byte 3")]
)
def test_empty_or_undecodable_prompt_is_refused(input: str | bytes, reason: str) -> None:
    assert reason in refused("newchat", "--offline", input=input)


def test_unreachable_server_is_reported_without_the_key() -> None:
    line = refused("newchat", "--key", KEY, "--base-url", "http://127.0.0.1:9/v1", "hi")
    assert "cannot reach" in line and KEY not in line
    assert shown(None, json.loads(ok("list", "--json"))[0]["id"]) == []


def test_key_echoed_by_the_server_is_masked() -> None:
    refusal = whole(error(f"no such key: {KEY}\x1b[2J\nsorry", "x"), "401 Unauthorized")
    with Misbehaving([refusal]) as server:
        line = refused("newchat", "--key", KEY, "--base-url", server.base_url, "hi")
    assert "401" in line and "no such key: sk-…bkFJ^[[2J sorry" in line
    assert KEY not in ok("log", "--json")
