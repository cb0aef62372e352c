"""Identifiers: what could be one, and what could not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.machines import EXAMPLES

from sessile.core.ids import SessionId, SessionKey, TenantId, well_formed

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
PREFIXES = ("ses", "trn", "msg", "call")


@EXAMPLES
@given(prefix=st.sampled_from(PREFIXES), rest=st.text(ALPHABET, min_size=1, max_size=64))
def test_an_id_is_its_prefix_and_up_to_64_safe_characters(prefix: str, rest: str) -> None:
    assert well_formed(f"{prefix}_{rest}", prefix=prefix)


@EXAMPLES
@given(prefix=st.sampled_from(PREFIXES), other=st.sampled_from(PREFIXES))
def test_an_id_of_one_kind_is_none_of_another(prefix: str, other: str) -> None:
    assert well_formed(f"{prefix}_1", prefix=other) == (prefix == other)


@EXAMPLES
@given(text=st.text(max_size=70))
def test_whatever_has_another_character_is_no_id(text: str) -> None:
    fits = 0 < len(text) <= 64 and all(each in ALPHABET for each in text)

    assert well_formed(f"ses_{text}", prefix="ses") == fits


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ses",
        "ses_",
        "ses-1",
        "SES_1",
        " ses_1",
        "ses_1\n",
        "ses_1/..",
        "ses_é",
        "ses_١",  # noqa: RUF001  a digit, but of another script
        "ses_" + "a" * 65,
        "usr_1",
        "xses_1",
    ],
)
def test_what_is_no_id_is_told(text: str) -> None:
    assert not well_formed(text, prefix="ses")


def test_a_prefix_that_there_is_not_has_no_ids() -> None:
    assert not well_formed("usr_1", prefix="usr")


def test_a_key_begins_with_the_tenant() -> None:
    assert SessionKey(TenantId("tnt_1"), SessionId("ses_1")) == ("tnt_1", "ses_1")
