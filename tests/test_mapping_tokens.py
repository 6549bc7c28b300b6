"""Tokens for people: one key a data folder, seen by nobody else, never replaced in silence."""

import hashlib
import hmac
import re
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.tokens import KEY_FILE, TokenKeyError, Tokens, load_tokens

A, B = Tokens(b"a" * 32), Tokens(b"b" * 32)


@given(st.text(), st.text())
def test_one_identifier_has_one_token_under_one_key(one, other):
    assert re.fullmatch(r"tok_[0-9a-f]{32}", A.token(one))
    assert (A.token(one) == A.token(other)) == (one == other)
    assert A.token(one) != B.token(one)


def test_the_token_is_the_hmac_that_anyone_with_the_key_can_compute():
    # printf 10006 | openssl dgst -sha256 -hmac aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    assert A.token("10006") == "tok_" + hmac.new(b"a" * 32, b"10006", hashlib.sha256).hexdigest()[:32]


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="at least 32"):
        Tokens(b"secret")


def test_a_key_shows_itself_in_no_text():
    assert "aaaa" not in repr(A)


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path):
    first = load_tokens(tmp_path / "var")
    path = tmp_path / "var" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_tokens(tmp_path / "var") == first
    assert [p.name for p in path.parent.iterdir()] == [KEY_FILE]


def test_a_key_that_others_can_read_is_not_used(tmp_path):
    load_tokens(tmp_path)
    (tmp_path / KEY_FILE).chmod(0o640)
    with pytest.raises(TokenKeyError, match="chmod 600"):
        load_tokens(tmp_path)


@pytest.mark.parametrize("text", ["", "abcd", "not hexadecimal", "é"])
def test_a_damaged_key_is_not_replaced_in_silence(tmp_path, text):
    path = tmp_path / KEY_FILE
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    with pytest.raises(TokenKeyError, match="restore it"):
        load_tokens(tmp_path)
    assert path.read_text("utf-8") == text
