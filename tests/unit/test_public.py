"""The names that users build on: each is there, and what they are answered and refused with too."""

import ast
import inspect

import pytest

import sessile
from sessile import Server

TYPED = {
    alias.name
    for node in ast.walk(ast.parse(inspect.getsource(sessile)))
    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sessile.")
    for alias in node.names
}


@pytest.mark.parametrize("name", sessile.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(sessile, name).__name__ == name


def test_the_list_of_public_names_is_one() -> None:
    assert sessile.__all__ == sorted(sessile._HOMES)
    assert set(sessile.__all__) == TYPED


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="Manager"):
        _ = sessile.Manager


@pytest.mark.parametrize("method", ["open", "submit", "cancel", "history", "app"])
def test_what_a_server_takes_and_answers_has_a_public_name(method: str) -> None:
    """Of Sessile's own: a user writes them into signatures."""
    signature = inspect.signature(getattr(Server, method), eval_str=False)
    hints = [each.annotation for each in signature.parameters.values()]
    named = {
        hint.__name__
        for each in (*hints, signature.return_annotation)
        for hint in (each, *getattr(each, "__args__", ()))
        if inspect.isclass(hint) and hint.__module__.startswith("sessile.")
    }

    assert named <= set(sessile.__all__)
