"""Settings, as they may be shown."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest

from sessile.settings import Settings, without_password

TEXTS = [field for field in fields(Settings) if isinstance(field.default, str)]
NO_SECRETS = {"pusher_key", "oidc_jwks_url"}
"""The one is in every page that connects, the other an address that anybody may read."""
CANARY = "canary-in-a-setting"


def value(name: str) -> str:
    return f"postgresql://ann:{CANARY}@db/sessile" if name.endswith("_url") else CANARY


@pytest.mark.parametrize("field", TEXTS, ids=lambda field: field.name)
def test_what_is_named_like_a_secret_is_one(field: Any) -> None:
    named = re.search("secret|token|password|key|_url", field.name) is not None

    assert field.metadata["secret"] is (named and field.name not in NO_SECRETS)


@pytest.mark.parametrize("field", TEXTS, ids=lambda field: field.name)
def test_a_secret_is_not_shown(field: Any) -> None:
    settings = replace(Settings(), **{field.name: value(field.name)})

    for text in (repr(settings), str(settings), str(settings.shown())):
        assert (CANARY in text) is not field.metadata["secret"]
        assert f"{field.name}" in text
        assert "turns_concurrent_max" in text


def test_what_is_not_set_is_seen_not_to_be() -> None:
    assert Settings().shown()["dev_token"] == ""
    assert Settings(dev_token="t").shown()["dev_token"] == "…"
    assert Settings(store_url="memory").shown()["store_url"] == "memory"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://token@a:4222", "nats://…@a:4222"),
        ("nats://token@a,nats://other@b", "nats://…@a,nats://…@b"),
        ("nats://ann:secret@a", "nats://ann:…@a"),
        ("nats://a:4222", "nats://a:4222"),
        ("postgresql://ann@db/x", "postgresql://ann@db/x"),
        ("postgresql://ann:p@ss@db/x", "postgresql://ann:…@db/x"),
        ("postgresql://db/x?user=ann&password=secret", "postgresql://db/x?user=ann&password=…"),
    ],
)
def test_an_address_is_shown_without_what_lets_in(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_what_is_the_default_may_be_given(field: Any) -> None:
    said = str(field.default)

    assert getattr(Settings.read({}, **{field.name: said}), field.name) == field.default
