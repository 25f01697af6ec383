"""One question from the shell: by argument, by pipe, by both; keys, models, servers; what goes wrong."""

from __future__ import annotations

import json
import shlex
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from openai2.offline import OfflineServer
from tests.support.cli import COMMAND, KEY, NOTICE, TIMEOUT, contents, environment, invoke, ok, refused, run


def _model_asked(server: OfflineServer) -> str:
    return str(server.requests[-1].body["model"])


def test_by_argument_and_by_pipe_in_processes_of_their_own() -> None:
    first = run("newchat", "--offline", "自然数50的后面是几?")
    assert (first.returncode, first.stdout) == (0, "51\n")
    assert "not a language model" in first.stderr
    second = run("chat", "--offline", input="再往后是几?\n")
    assert (second.returncode, second.stdout) == (0, "52\n")


def test_the_argument_comes_before_what_is_piped(server: OfflineServer) -> None:
    ok("newchat", "总结：", input="第一行\n第二行\n\n")
    assert contents(json.loads(ok("show", "--json")))[0] == "总结：\n\n第一行\n第二行"


def test_what_is_piped_is_kept_exactly_but_for_its_last_line_ends(server: OfflineServer) -> None:
    text = "\ta\0b\x1b[31m\r\n ünïcode 😀"
    answer = invoke("newchat", input=text + "\r\n\n").stdout_bytes.decode()
    assert contents(json.loads(ok("show", "--json")))[0] == text
    assert text in answer, "a program gets the answer verbatim"


def test_newchat_leaves_the_old_one_and_chat_goes_on_with_the_last(server: OfflineServer) -> None:
    ok("newchat", "-c", "旅行", "自然数1的后面是几?")
    ok("newchat", "自然数100的后面是几?")
    assert ok("chat", "再往后是几?") == "102\n"
    assert ok("chat", "-c", "旅", "再往后是几?") == "3\n"
    assert ok("chat", "再往后是几?") == "4\n"
    assert "旅行" in refused("newchat", "-c", "旅行", "x")
    assert len(json.loads(ok("list", "--json"))) == 2


def test_a_new_name_begins_a_conversation_and_says_so(server: OfflineServer) -> None:
    result = invoke("chat", "-c", "新的", "自然数1的后面是几?")
    assert result.stdout == "2\n" and "新的" in result.stderr
    assert "openai2 fork 新的@2" in refused("chat", "-c", "新的@2", "x")


def test_an_ambiguous_reference_names_the_candidates(server: OfflineServer) -> None:
    ok("newchat", "-c", "trip one", "hi")
    ok("newchat", "-c", "trip two", "hi")
    for command in (["chat", "-c", "trip", "x"], ["show", "trip"]):
        line = refused(*command)
        assert "trip one" in line and "trip two" in line


def test_a_system_message_is_added_once_and_pinned(server: OfflineServer) -> None:
    ok("newchat", "-s", "你是诗人", "自然数1的后面是几?")
    ok("chat", "-s", "你是诗人", "--max-messages", "3", "再往后是几?")
    ok("chat", "再往后是几?")
    assert contents(json.loads(ok("show", "--json"))) == ["你是诗人", "再往后是几?", "4"]
    assert "(pinned)" in ok("show").splitlines()[0]
    assert "empty" in refused("chat", "-s", " ", "x")


def test_model_and_limit_are_kept_for_next_time(
    server: OfflineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI2_MODEL", "from-the-environment")
    ok("newchat", "自然数1的后面是几?")
    assert _model_asked(server) == "from-the-environment"
    ok("chat", "-m", "chosen", "--max-messages", "2", "再往后是几?")
    ok("chat", "再往后是几?")
    assert _model_asked(server) == "chosen"
    assert contents(json.loads(ok("show", "--json"))) == ["再往后是几?", "4"]
    ok("newchat", "自然数1的后面是几?")
    assert _model_asked(server) == "from-the-environment"


def test_several_keys_share_the_load(server: OfflineServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    ok("add_apikey", KEY)
    ok("add_apikey", KEY + "2")
    ok("newchat", "自然数1的后面是几?")
    (paid,) = [line for line in ok("log", "--json").splitlines() if '"answer"' in line]
    assert KEY not in paid and json.loads(paid)["data"]["answer"]["key"] in ok("read_apikey")


def test_offline_needs_no_key_and_says_who_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("no_proxy", "example.org")
    assert ok("newchat", "--offline", "随便") == NOTICE + "随便\n"
    assert '"model":"offline"' in ok("log", "--json")


# -- what goes wrong


def test_no_key_names_the_three_ways_out() -> None:
    line = refused("chat", "hi")
    assert "openai2 add_apikey" in line and "OPENAI_API_KEY" in line and "--offline" in line
    assert not Path(ok("path", "database").strip()).exists()


@pytest.mark.parametrize(
    ("input", "said"), [("", "empty"), (" \n", "empty"), (b"\xff\xfe", "UTF-8"), (b"ab\xff", "byte 3")]
)
def test_prompts_that_are_none(input: str | bytes, said: str) -> None:
    assert said in refused("newchat", "--offline", input=input)


def test_an_unreachable_server() -> None:
    line = refused("newchat", "--key", KEY, "--base-url", "http://127.0.0.1:9/v1", "hi")
    assert "cannot reach" in line and KEY not in line
    assert json.loads(ok("show", "--json", json.loads(ok("list", "--json"))[0]["id"])) == []


def test_a_refusal_that_echoes_the_key() -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps(
                {"error": {"message": f"no such key: {KEY}\x1b[2J\nsorry", "code": "x"}}
            ).encode()
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        line = refused("newchat", "--key", KEY, "--base-url", f"http://127.0.0.1:{http.server_port}/v1", "hi")
        http.shutdown()
        thread.join()
    assert "401" in line and "no such key: sk-…bkFJ^[[2J sorry" in line
    assert KEY not in ok("log", "--json")


def test_wrong_usage_is_status_2() -> None:
    assert "--help" in refused("chat", "--nosuch", status=2)
    assert "nosuch" in refused("nosuch", status=2)
    refused("chat", "--max-messages", "0", "hi", status=2)
    refused("chat", "one", "two", status=2)
    assert "chat has no option --json" in refused("--json", "chat", "hi", status=2)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("this is a letter, and no database at all, whatever its name may say" * 100)
    assert str(other) in refused("chat", "--offline", "--db", str(other), "hi")
    assert "folder" in refused("list", "--db", str(tmp_path))
    assert "sqlite:///" in refused("list", "--db", "postgres://secret@host/db")


@pytest.mark.parametrize("command", ["log", "list", "--help", "--version", "list --help", "", "(Tab)"])
def test_a_closed_pipe_is_no_error(command: str) -> None:
    run("newchat", "--offline", "hi")
    tab = {"_OPENAI2_COMPLETE": "bash_complete", "COMP_WORDS": "openai2 s", "COMP_CWORD": "1"}
    words, more = ([], tab) if command == "(Tab)" else (command.split(), {})
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**more)
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(TIMEOUT) == 141
    assert said == b""


@pytest.mark.parametrize(("command", "status"), [("show nothing", 1), ("list --nothing", 2)])
def test_a_failure_that_nobody_reads_is_one_still(command: str, status: int) -> None:
    process = subprocess.Popen(
        [*COMMAND, *command.split()], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment()
    )
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(TIMEOUT) == status


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_an_empty_one(closed: str) -> None:
    for command in ("newchat --offline hi", "list", "show --json"):
        line = f"{' '.join(shlex.quote(word) for word in COMMAND)} {command} {closed}"
        done = subprocess.run(
            ["sh", "-c", line], env=environment(), capture_output=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
    assert len(json.loads(run("show", "--json").stdout)) == 2
