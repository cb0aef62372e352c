"""The names that users build on: each is there, and what they are answered and refused with too."""

import ast
import inspect
from importlib import import_module
from typing import Any, get_origin

import pytest

import sessile
from sessile import Keeping, Reads, Server, Sessions

TYPED = {
    alias.name
    for node in ast.walk(ast.parse(inspect.getsource(sessile)))
    if isinstance(node, ast.ImportFrom) and str(node.module).startswith("sessile.")
    for alias in node.names
}


@pytest.mark.parametrize("name", sessile.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(sessile, name) is getattr(import_module(sessile._HOMES[name]), name)


def test_the_list_of_public_names_is_one() -> None:
    assert sessile.__all__ == sorted(sessile._HOMES)
    assert set(sessile.__all__) == TYPED


def test_another_name_is_not_there() -> None:
    with pytest.raises(AttributeError, match="Manager"):
        _ = sessile.Manager


@pytest.mark.parametrize(
    "method",
    [
        *(Server.open, Server.submit, Server.cancel, Server.history, Server.app),
        *(Sessions.open_with, Sessions.edit, Sessions.update, Sessions.close, Keeping.delete),
        *(Reads.found, Reads.sessions, Reads.turn, Reads.turns, Reads.messages),
    ],
    ids=lambda method: method.__qualname__,
)
def test_what_a_server_takes_and_answers_has_a_public_name(method: Any) -> None:
    """Of Sessile's own: a user writes them into signatures."""
    signature = inspect.signature(method, eval_str=False)
    hints = [each.annotation for each in signature.parameters.values()]
    named = {
        hint.__name__
        for each in (*hints, signature.return_annotation)
        for hint in (each, get_origin(each), *getattr(each, "__args__", ()))
        if inspect.isclass(hint) and hint.__module__.startswith("sessile.")
    }

    assert named <= set(sessile.__all__)


# -- the demos are written on them alone


def not_public(source: str) -> set[str]:
    """What a module imports of Sessile that is neither a public name nor an integration."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{each.name}" for each in node.names}
    public = {f"sessile.{name}" for name in sessile.__all__}
    return {
        name
        for name in imported - public
        if name.startswith("sessile.") and not name.startswith("sessile.integrations.")
    }


@pytest.mark.parametrize("system", ["support", "sites", "banking", "tasks", "workspace"])
def test_a_demo_is_one_file_on_the_public_names_alone(system: str) -> None:
    module = import_module(f"sessile.demo.{system}")

    assert not_public(inspect.getsource(module)) == set()


def test_what_a_demo_may_not_import_is_found() -> None:
    planted = """
import sessile.wiring
from sessile import Server, runtime
from sessile.demo.support import answer
from sessile.integrations.intent_model import IntentModel
def later():
    from sessile.http.sessions import IdempotencyKey
"""

    assert not_public(planted) == {
        "sessile.wiring",
        "sessile.runtime",
        "sessile.demo.support.answer",
        "sessile.http.sessions.IdempotencyKey",
    }
