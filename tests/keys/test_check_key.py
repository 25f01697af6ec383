"""One key: fingerprint, mask, and which keys can be sent."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openai2.errors import BadInput
from openai2.keys.pool import check_key, fingerprint, mask
from tests.support.keys import A, B


def test_fingerprint_is_stable_and_short() -> None:
    assert fingerprint("sk-test-0001") == "1ac93f6ee838"
    assert fingerprint(A) == fingerprint(A) != fingerprint(B)
    assert set(fingerprint(A)) <= set("0123456789abcdef")
    assert len(fingerprint("\ud800")) == 12


def test_mask_shows_the_ends_of_long_keys_only() -> None:
    assert mask("sk-test-00000001") == "sk-…0001"
    assert mask("sk-test-0000001") == "*" * 15
    assert mask("") == ""
    assert mask("\x1b[31m-test-0000\r\n") == "?[3…00??"


@pytest.mark.parametrize("key", ["api_key", "sk-mf40...", "...", "!", "~" * 5000, A])
def test_check_key_returns_a_valid_key(key: str) -> None:
    assert check_key(key) is key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("", "empty"),
        ("sk-test-0001\n", "a line end at character 13 of 13"),
        ("sk-test-0001\r\n", "a line end"),
        ("\u2028sk-test-0001", "a line end"),
        (" sk-test-0001", "a space at character 1 of 13"),
        ("sk-test-0001\u3000", "a space"),
        ("sk-test\t0001", "a space"),
        ("sk-test-0001\x00", "a control character"),
        ("sk-test-0001\x7f", "a control character"),
        ("sk-test-000１", "not ASCII"),
        ("sk-test-0001é", "not ASCII"),
        ("\ud800sk-test-0001", "not ASCII"),
        (None, "NoneType"),
        (b"sk-test-0001", "bytes"),
        (["sk-test-0001"], "list"),
    ],
)
def test_check_key_error_does_not_contain_the_key(key: object, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        check_key(key)
    assert isinstance(caught.value, BadInput)
    seen = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value.facts)
    assert "sk-test" not in seen
    assert "\n" not in str(caught.value)


@given(st.text())
@settings(deadline=None)
def test_check_key_accepts_visible_ascii_only(key: str) -> None:
    legal = bool(key) and all(0x21 <= ord(char) <= 0x7E for char in key)
    try:
        assert check_key(key) == key
        assert legal
    except BadInput:
        assert not legal
