"""Python functions as tools: their schemas, their calls, and the events on record."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import json
import threading
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import msgspec
import openai
import pytest

from openai2 import BadInput, Chat, Refused
from openai2.tools.functions import Tool
from tests.support.misbehaving_server import Misbehaving, completion, error, whole

KEY = "sk-made-up-0123456789abcdef"


@dataclasses.dataclass
class Place:
    city: str
    country: str = "CN"


class Unit(enum.Enum):
    C = "celsius"
    F = "fahrenheit"


def weather(
    place: Place,
    unit: Annotated[Unit, "of the temperature"] = Unit.C,
    *,
    days: int | None = None,
    kind: Literal["short", "long"] = "short",
) -> str:
    """Tell the weather.

    In few words.

    Args:
        place: where,
            exactly
        days (int): how many days ahead

    Returns:
        place: this is no argument
    """
    return f"{place.city}: 20 {unit.value} {days} {kind}"


def add(a: int, b: int) -> int:
    """Add two numbers.

    :param a: the first
    :param b: the second
    """
    return a + b


def test_schema_has_types_descriptions_and_defaults() -> None:
    told = Tool(weather).definition
    assert told["type"] == "function"
    function = told["function"]
    assert function["name"] == "weather" and function["description"] == "Tell the weather.\n\nIn few words."
    parameters = function["parameters"]
    assert parameters["required"] == ["place"] and parameters["additionalProperties"] is False
    fields = parameters["properties"]
    assert fields["place"] == {"$ref": "#/$defs/Place", "description": "where, exactly"}
    assert fields["unit"]["description"] == "of the temperature" and fields["unit"]["default"] == "celsius"
    assert fields["days"]["anyOf"] == [{"type": "integer"}, {"type": "null"}]
    assert fields["days"]["default"] is None and fields["days"]["description"] == "how many days ahead"
    assert fields["kind"] == {"enum": ["long", "short"], "default": "short"}
    assert parameters["$defs"]["Place"]["required"] == ["city"]
    assert parameters["$defs"]["Unit"]["enum"] == ["celsius", "fahrenheit"]
    second = Tool(add).definition["function"]["parameters"]["properties"]["b"]
    assert second == {"type": "integer", "description": "the second"}


class Sized(msgspec.Struct):
    size: int


def _place_only(a: int, /, b: Sized) -> int:
    return a + b.size


class _Callable:
    """Says yes."""

    def __call__(self, word: str) -> str:
        return word


def test_methods_and_callable_objects_are_tools() -> None:
    assert Tool(_place_only).bind('{"a": 1, "b": {"size": 2}}') == ((1,), {"b": Sized(2)})
    assert Tool("a".__add__).name == "__add__"
    assert Tool(_Callable()).definition["function"]["description"] == "Says yes."


def _stars(*args: int) -> None: ...
def _no_schema(lock: threading.Thread) -> None: ...
def _lost(place: Any) -> None: ...


_lost.__annotations__["place"] = "Nowhere"
BAD: dict[str, list[Any]] = {
    "stars": [_stars],
    "lambda": [lambda: 1],
    "no schema": [_no_schema],
    "lost": [_lost],
    "twice": [add, add],
    "no function": ["add"],
    "none": [],
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_invalid_tool_is_refused_before_any_request(bad: Any) -> None:
    chat = Chat(KEY, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(BadInput):
        chat.run("hi", tools=bad)
    assert chat.version == 0


# -- The loop ----------------------------------------------------------------------------------------


def calls(*asked: tuple[str, str]) -> list[bytes]:
    """An answer that calls these tools with these arguments."""
    made = [
        {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(asked)
    ]
    return [whole(completion(tool_calls=made).replace(b'"an answer"', b"null"))]


ANSWER = [whole(completion("the end"))]


class Way:
    """Sync or async, and what the model was sent."""

    def __init__(self, *scripts: list[bytes], asynchronous: bool) -> None:
        self.bodies: list[Any] = []
        self._asynchronous = asynchronous

        def noting(script: list[bytes]) -> Callable[[bytes, bytes], Iterable[bytes]]:
            def answer(head: bytes, body: bytes) -> Iterable[bytes]:
                self.bodies.append(json.loads(body))
                return script

            return answer

        self.server = Misbehaving(*(noting(script) for script in scripts))
        self.chat = Chat(KEY, "m", base_url=self.server.base_url, max_retries=0)

    def run(self, *args: Any, **options: Any) -> str:
        if self._asynchronous:
            return asyncio.run(self.chat.async_run(*args, **options))
        return self.chat.run(*args, **options)

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.__exit__()

    def contents(self) -> list[Any]:
        return [message["content"] for message in self.chat.fetch_messages()]


BOTH = pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])


@BOTH
def test_model_gets_the_results_of_its_calls(asynchronous: bool) -> None:
    first = calls(("add", '{"a": 1, "b": 2}'), ("weather", '{"place": {"city": "Xi’an"}}'))
    with Way(first, ANSWER, asynchronous=asynchronous) as way:
        said = way.run("go", tools=[add, weather], temperature=0, tool_choice="required")
        assert said == "the end"
        assert [m["role"] for m in way.chat.fetch_messages()] == "user assistant tool tool assistant".split()
        assert way.contents() == ["go", None, "3", "Xi’an: 20 celsius None short", "the end"]
        assert [body["tool_choice"] for body in way.bodies] == ["required", "auto"]
        assert all(len(body["tools"]) == 2 and body["temperature"] == 0 for body in way.bodies)
        assert way.bodies[1]["messages"] == way.chat.fetch_messages()[:4]
        kinds = [record.type for record in way.chat.events()]
        assert kinds.count("message_added") == 5 and kinds.count("request_started") == 2
        assert str(way.chat.rollback()) == ""


def fails(word: str) -> str:
    """Fail."""
    raise LookupError(f"no {word}")


@BOTH
@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("fails", '{"word": "luck"}', "LookupError: no luck"),
        ("made_up", "{}", "there is no tool 'made_up'; the tools are: add, fails"),
        ("", "{}", "there is no tool"),
        ("add", '{"a": 1', "DecodeError"),
        ("add", '{"a": 1}', "missing required field `b`"),
        ("add", '{"a": 1, "b": "2"}', "Expected `int`, got `str` - at `$.b`"),
        ("add", '{"a": 1, "b": 2, "c": 3}', "unknown field `c`"),
        ("add", "", "missing required field"),
        ("add", "[" * 100_000, "Error"),
    ],
)
def test_model_gets_the_error_of_a_call(name: str, arguments: str, told: str, asynchronous: bool) -> None:
    with Way(calls((name, arguments)), ANSWER, asynchronous=asynchronous) as way:
        assert way.run("go", tools=[add, fails]) == "the end"
        content = way.contents()[2]
        assert told in json.loads(content)["error"]


@BOTH
def test_calls_of_one_answer_run_in_parallel(asynchronous: bool) -> None:
    together = threading.Barrier(3, timeout=20)

    def meet(number: int) -> int:
        together.wait()
        return number

    first = calls(*(("meet", json.dumps({"number": n})) for n in range(3)))
    with Way(first, ANSWER, asynchronous=asynchronous) as way:
        way.run("go", tools=[meet])
        assert way.contents()[2:5] == ["0", "1", "2"]


def test_async_tools_are_awaited_and_refused_by_run() -> None:
    async def slow(number: int) -> dict[str, int]:
        await asyncio.sleep(0)
        if number:
            raise ValueError("too large")
        return {"number": number}

    with Way(calls(("slow", '{"number": 0}'), ("slow", '{"number": 1}')), ANSWER, asynchronous=True) as way:
        with pytest.raises(BadInput, match="async_run"):
            way.chat.run("go", tools=[slow])
        assert way.run("go", tools=[slow]) == "the end"
        assert way.contents()[2:4] == ['{"number":0}', '{"error":"ValueError: too large"}']


@BOTH
def test_max_rounds_ends_the_loop(asynchronous: bool) -> None:
    with Way(calls(("add", '{"a": 1, "b": 2}')), asynchronous=asynchronous) as way:
        with pytest.raises(Refused, match="after 3 rounds"):
            way.run("go", tools=[add], max_rounds=3)
        assert len(way.bodies) == 3
        *_, last = way.chat.fetch_messages()
        assert last["role"] == "tool" and "too many rounds" in last["content"]  # it can be gone on with


@BOTH
def test_failed_loop_resumes_without_a_question(asynchronous: bool) -> None:
    script = [calls(("add", '{"a": 1, "b": 2}')), [whole(error(), "500 No")], ANSWER]
    with Way(*script, asynchronous=asynchronous) as way:
        with pytest.raises(openai.InternalServerError):
            way.run("go", tools=[add])
        assert way.contents() == ["go", None, "3"]
        assert way.run(tools=[add]) == "the end"
        assert way.contents() == ["go", None, "3", "the end"]


def test_calls_at_the_end_of_the_view_run_first() -> None:
    with Way(calls(("add", '{"a": 1, "b": 2}')), ANSWER, asynchronous=False) as way:
        assert way.chat.request("go", tools=[Tool(add).definition]) == ""
        assert way.run(tools=[add]) == "the end"
        assert way.contents() == ["go", None, "3", "the end"]


@BOTH
def test_interrupted_tool_leaves_no_call_without_result(asynchronous: bool) -> None:
    def leave() -> None:
        raise KeyboardInterrupt

    async def aleave() -> None:
        raise asyncio.CancelledError

    name, tool = ("aleave", aleave) if asynchronous else ("leave", leave)
    with Way(calls((name, "{}"), ("add", '{"a": 1, "b": 2}')), asynchronous=asynchronous) as way:
        with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
            way.run("go", tools=[tool, add])
        assert ["interrupted" in content for content in way.contents()[2:]] == [True, True]


def test_results_are_refused_when_the_view_changed() -> None:
    with Way(calls(("meanwhile", "{}")), ANSWER, asynchronous=False) as way:

        def meanwhile() -> str:
            way.chat.add_dialogs({"role": "user", "content": "excuse me"})
            return "done"

        with pytest.raises(Refused, match="was changed while tools ran"):
            way.run("go", tools=[meanwhile])


@pytest.mark.parametrize("limit", range(3, 9))
def test_limit_keeps_calls_and_results_together(limit: int) -> None:
    two = calls(("add", '{"a": 1, "b": 2}'), ("add", '{"a": 3, "b": 4}'))
    with Way(two, two, ANSWER, two, ANSWER, asynchronous=False) as way:
        way.chat.MsgMaxCount = limit
        way.chat.add_dialogs({"role": "system", "content": "be brief"})
        way.chat.pin_messages(0)
        if limit < 4:  # the pinned message, a call and its two results
            with pytest.raises(BadInput):
                way.run("go", tools=[add])
            return
        way.run("go", tools=[add])
        way.run("again", tools=[add])
        for body in way.bodies:
            sent = body["messages"]
            assert len(sent) <= limit and sent[0]["role"] == "system"
            _whole_units(sent)
        _whole_units(way.chat.fetch_messages())


def _whole_units(messages: list[Any]) -> None:
    index = 0
    while index < len(messages):
        message = messages[index]
        assert message["role"] != "tool", "a result without its call"
        index += 1
        if message.get("tool_calls"):
            answered = [later.get("tool_call_id") for later in messages[index : index + 2]]
            assert answered == [call["id"] for call in message["tool_calls"]], "a call without its results"
            index += 2


def test_response_format_and_tools_are_sent_unchanged() -> None:
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    shape = {"type": "json_schema", "json_schema": schema}
    definition = Tool(add).definition
    with Way([whole(completion('{"a":1}'))], asynchronous=False) as way:
        answer = way.chat.request("go", response_format=shape, tools=[definition], tool_choice="none")
        assert answer == '{"a":1}'
        (body,) = way.bodies
        assert body["response_format"] == shape and body["tools"] == [definition]
        started = next(record.data for record in way.chat.events() if record.type == "request_started")
        assert started["options"]["response_format"] == shape
