"""Masking: a key is masked in whatever form a server echoes it, and other text stays as it is."""

from __future__ import annotations

import base64
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2.keys import masking
from openai2.keys.pool import mask

KEY = "sk-proj-4f/Q+9z7K2mX81-bT5wY0cR6"

FORMS = {
    "whole": KEY,
    "beginning": KEY[:16],
    "longer beginning": KEY[:-3],
    "end": KEY[-16:],
    "longer end": KEY[3:],
    "url": quote(KEY, safe=""),
    "hex": KEY.encode().hex(),
    "upper hex": KEY.encode().hex().upper(),
    "base64": base64.b64encode(KEY.encode()).decode().rstrip("="),
    "url-safe base64": base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
    "basic": base64.b64encode(f":{KEY}".encode()).decode(),
    "bearer": base64.b64encode(f"Bearer {KEY}!".encode()).decode(),
    "user": base64.b64encode(f"ab:x{KEY}..".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_key_is_masked(form: str) -> None:
    echoed = FORMS[form]
    said = f"bad key {echoed}: {echoed}"
    in_json = msgspec.json.encode({"content": said})
    for masked in (
        masking.text(said, [KEY]),
        masking.encoded(in_json, [KEY]).decode(),
        masking.value(said.encode(), [KEY]).decode(),
        masking.value({"a": [said]}, [KEY])["a"][0],
    ):
        assert masked.count(mask(KEY)) == 2 and "bad key" in masked
        assert not any(echoed[at : at + 12] in masked for at in range(len(echoed) - 11))
    assert msgspec.json.decode(masking.encoded(in_json, [KEY]))


def test_text_without_a_key_stays_as_it_is() -> None:
    for said in ("sk-proj- is a prefix", KEY[:15], KEY[-15:], KEY[8:20], "abc 自然数"):
        assert masking.text(said, [KEY, "offline", "EMPTY", "lm-studio"]) == said


def test_keys_with_one_beginning_keep_their_own_masks() -> None:
    other = KEY[:20] + "somethingelse1234"
    assert masking.text(f"{KEY} {other}", [KEY, other]) == f"{mask(KEY)} {mask(other)}"


@given(st.text(), st.text(), st.integers(0, len(KEY)), st.integers(0, len(KEY)))
def test_no_long_end_of_a_key_is_left(before: str, after: str, start: int, end: int) -> None:
    masked = masking.text(before + KEY[:end] + after + KEY[start:] + before, [KEY])
    assert KEY[:16] not in masked and KEY[-16:] not in masked
