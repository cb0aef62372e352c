"""The repository lints itself: rules that no linter knows, read from the syntax tree alone.

Each rule is a function from a project's root to the faults it finds there. It is held against
this project, and against a small one into which the fault was planted.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "src/sessile"

MODULE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60

# "src/sessile/module.py" or "src/sessile/module.py::function", and the reason.
SIZE_EXCEPTIONS: dict[str, str] = {
    "src/sessile/core/events.py": "the closed set of facts stands in one place, a class each",
}

CORE_IMPORTS = frozenset(
    "__future__ base64 bisect collections dataclasses datetime decimal enum fnmatch fractions"
    " functools hashlib heapq itertools json math operator re string textwrap types typing"
    " unicodedata".split()
)
CORE_CALLS_FORBIDDEN = frozenset({"eval", "exec", "input", "open", "print"})

BIRTHPLACES = {
    "src/sessile/adapters/system.py": "the id source",
    "src/sessile/adapters/dev_tokens.py": "secrets of tokens, which are no ids",
    "src/sessile/adapters/key_texts.py": "secrets of keys and tokens, and the ids in them",
    "src/sessile/demo/banking.py": "the secret of the bank's tokens, which is no id",
    "src/sessile/verify/recorder.py": "words by which the checker knows its own messages",
    "src/sessile/verify/probes/sessile_probe.py": "words by which its runs are told apart",
    "src/sessile/verify/probes/pydantic_ai_probe.py": "the same",
    "src/sessile/adapters/pusher_app.py": "the secret of the Pusher app, which is no id",
}
ID_MAKERS = ("uuid", "secrets", "os.urandom", "os.getrandom", "random.SystemRandom")

PROBES = f"{PACKAGE}/verify/probes/"
"""What the checker ships and never imports: each is for one framework."""
VERIFY_IMPORTS = frozenset({"httpx2", "sessile.verify", "yaml"}) | sys.stdlib_module_names

MUTABLE_TYPES = frozenset(
    "dict list set bytearray collections.defaultdict collections.deque collections.Counter"
    " collections.OrderedDict collections.ChainMap contextvars.ContextVar threading.local"
    " weakref.WeakKeyDictionary weakref.WeakSet weakref.WeakValueDictionary".split()
)

SLEEPS = frozenset({"asyncio.sleep", "anyio.sleep", "time.sleep"})
SLEEPERS = {
    "tests/simulation/": "time is virtual there: a sleep costs nothing and always ends the same",
    "tests/servers/": "they wait for processes, whose clocks no test can advance",
    "tests/verify/naive.py": "a backend whose turns take time, as those of others do",
    "tests/chaos/": "its nodes are processes of their own, whose clocks no test can advance",
}


class Fault(NamedTuple):
    """A place that breaks a rule."""

    path: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.why}"


class Module(NamedTuple):
    """A parsed source file."""

    path: str
    text: str
    tree: ast.Module

    def fault(self, node: ast.stmt | ast.expr | None, why: str) -> Fault:
        return Fault(self.path, node.lineno if node else 1, why)

    def imports(self) -> Iterator[tuple[ast.stmt, str, str]]:
        """Each imported name: the statement, its local name, and the dotted name it stands for."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield node, alias.asname or alias.name.partition(".")[0], alias.name
            elif isinstance(node, ast.ImportFrom):
                source = "." * node.level + (node.module or "")
                for alias in node.names:
                    yield node, alias.asname or alias.name, f"{source}.{alias.name}"

    def origins(self) -> dict[str, str]:
        """Local name to the dotted name it stands for; `import a.b` binds `a`."""
        return {
            local: dotted.partition(".")[0]
            if isinstance(node, ast.Import) and dotted.startswith(f"{local}.")
            else dotted
            for node, local, dotted in self.imports()
        }

    def dotted(self, node: ast.expr, origins: dict[str, str]) -> str | None:
        """The dotted name that an expression stands for, seen through the imports."""
        match node:
            case ast.Name(id=name):
                return origins.get(name, name)
            case ast.Attribute(value=value, attr=attribute):
                base = self.dotted(value, origins)
                return f"{base}.{attribute}" if base else None
            case ast.Subscript(value=value):
                return self.dotted(value, origins)
            case _:
                return None


def modules(root: Path, under: str) -> Iterator[Module]:
    for file in sorted((root / under).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        yield Module(file.relative_to(root).as_posix(), text, ast.parse(text, filename=str(file)))


def within(dotted: str, allowed: frozenset[str] | tuple[str, ...]) -> bool:
    return any(dotted == name or dotted.startswith(f"{name}.") for name in allowed)


def words(name: str) -> set[str]:
    return set(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def too_long(root: Path) -> Iterator[Fault]:
    for module in modules(root, PACKAGE):
        lines = len(module.text.splitlines())
        if lines > MODULE_LINES_MAX and module.path not in SIZE_EXCEPTIONS:
            yield module.fault(None, f"{lines} lines; a module has {MODULE_LINES_MAX} at most")
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX and f"{module.path}::{node.name}" not in SIZE_EXCEPTIONS:
                why = f"{node.name}: {lines} lines; a function has {FUNCTION_LINES_MAX} at most"
                yield module.fault(node, why)


def without_docstring(root: Path) -> Iterator[Fault]:
    for module in modules(root, PACKAGE):
        if not ast.get_docstring(module.tree):
            yield module.fault(None, "a module's first line says what it is for")


def impure_core(root: Path) -> Iterator[Fault]:
    waits = ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith
    for module in modules(root, f"{PACKAGE}/core"):
        for statement, _, dotted in module.imports():
            if not within(dotted, CORE_IMPORTS | {"sessile.core"}):
                yield module.fault(statement, f"core imports {dotted}")
        for node in ast.walk(module.tree):
            if isinstance(node, waits):
                yield module.fault(node, "core does not wait")
            elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                if any(generator.is_async for generator in node.generators):
                    yield module.fault(node, "core does not wait")
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in CORE_CALLS_FORBIDDEN:
                    yield module.fault(node, f"core calls {node.func.id}")


def second_birthplaces(root: Path) -> Iterator[Fault]:
    for module in modules(root, PACKAGE):
        if module.path in BIRTHPLACES:
            continue
        for statement, _, dotted in module.imports():
            if within(dotted, ID_MAKERS):
                yield module.fault(statement, f"{dotted}: an id is born in one place")
        origins = module.origins()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute):
                dotted_name = module.dotted(node, origins)
                if dotted_name in ID_MAKERS:
                    yield module.fault(node, f"{dotted_name}: an id is born in one place")


def global_sessions(root: Path) -> Iterator[Fault]:
    suspicious = {"session", "sessions", "turn", "turns"}
    for module in modules(root, PACKAGE):
        origins = module.origins()
        for name, node, value in assignments(module.tree):
            if words(name) & suspicious and is_mutable(module, value, origins):
                yield module.fault(node, f"{name}: nothing that outlives a turn holds one")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Global):
                yield from (
                    module.fault(node, f"{name}: nothing that outlives a turn holds one")
                    for name in node.names
                    if words(name) & suspicious
                )


def assignments(tree: ast.Module) -> Iterator[tuple[str, ast.stmt, ast.expr]]:
    """Each name that a module or a class body of it sets, and to what."""
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for node in (node for body in bodies for node in body):
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Name):
                        yield target.id, node, value
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, node, value
            case _:
                pass


def is_mutable(module: Module, value: ast.expr, origins: dict[str, str]) -> bool:
    displays = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp
    if isinstance(value, ast.Call):
        return module.dotted(value.func, origins) in MUTABLE_TYPES
    return isinstance(value, displays)


def dependent_verify(root: Path) -> Iterator[Fault]:
    for module in modules(root, f"{PACKAGE}/verify"):
        if module.path.startswith(PROBES):
            continue
        for statement, _, dotted in module.imports():
            if not within(dotted, VERIFY_IMPORTS):
                yield module.fault(statement, f"the checker imports {dotted}")


def sleeping_tests(root: Path) -> Iterator[Fault]:
    for module in modules(root, "tests"):
        if module.path.startswith(tuple(SLEEPERS)):
            continue
        origins = module.origins()
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = module.dotted(node.func, origins)
            delays = [*node.args, *(keyword.value for keyword in node.keywords)]
            if name in SLEEPS and (name == "time.sleep" or is_number(delays[0])):
                yield module.fault(node, f"{name}: advance the clock, or await what is to happen")


def is_number(node: ast.expr) -> bool:
    """Made of number literals alone, as 0.1, -1 and 2 * 0.05 are."""
    match node:
        case ast.Constant(value=int() | float()):
            return True
        case ast.UnaryOp(operand=operand):
            return is_number(operand)
        case ast.BinOp(left=left, right=right):
            return is_number(left) and is_number(right)
        case _:
            return False


RULES: tuple[Callable[[Path], Iterator[Fault]], ...] = (
    too_long,
    without_docstring,
    impure_core,
    second_birthplaces,
    global_sessions,
    dependent_verify,
    sleeping_tests,
)

DOC = '"""What it is for."""\n'

FAULTS = [
    (too_long, "src/sessile/a.py", DOC + "\n" * MODULE_LINES_MAX),
    (too_long, "src/sessile/a.py", DOC + "def f():\n" + "    x = 1\n" * FUNCTION_LINES_MAX),
    (too_long, "src/sessile/a.py", DOC + "class A:\n  async def f(s):\n" + "    x = 1\n" * 60),
    (without_docstring, "src/sessile/a.py", "import os\n"),
    (without_docstring, "src/sessile/deep/a.py", f"import os\n{DOC}"),
    (without_docstring, "src/sessile/__init__.py", ""),
    (impure_core, "src/sessile/core/a.py", DOC + "async def f(): ...\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "x = (i async for i in y)\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "import os\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "def f():\n    from time import time\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "from collections import abc\nimport pydantic\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "import sessile.ports.store\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "from sessile import TurnContext\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "from . import ids\n"),
    (impure_core, "src/sessile/core/a.py", DOC + "print(1)\n"),
    (second_birthplaces, "src/sessile/http/a.py", DOC + "import uuid\n"),
    (second_birthplaces, "src/sessile/adapters/memory.py", DOC + "from uuid import uuid4 as u\n"),
    (second_birthplaces, "src/sessile/a.py", DOC + "import secrets as s\n"),
    (second_birthplaces, "src/sessile/a.py", DOC + "from os import urandom\n"),
    (second_birthplaces, "src/sessile/a.py", DOC + "import os as o\nx = o.urandom(16)\n"),
    (second_birthplaces, "src/sessile/a.py", DOC + "import os.path\nx = os.urandom(16)\n"),
    (global_sessions, "src/sessile/a.py", DOC + "sessions = {}\n"),
    (global_sessions, "src/sessile/a.py", DOC + "_turn_by_id: dict[str, int] = dict()\n"),
    (global_sessions, "src/sessile/a.py", DOC + "class A:\n    turns = []\n"),
    (
        global_sessions,
        "src/sessile/a.py",
        DOC + "from collections import deque as d\nTURNS = d[int]()\n",
    ),
    (
        global_sessions,
        "src/sessile/a.py",
        DOC + "current_session = None\ndef f():\n    global current_session\n",
    ),
    (dependent_verify, "src/sessile/verify/a.py", DOC + "from sessile.core import ids\n"),
    (dependent_verify, "src/sessile/verify/a.py", DOC + "from sessile import Settings\n"),
    (dependent_verify, "src/sessile/verify/a.py", DOC + "import pydantic\n"),
    (sleeping_tests, "tests/unit/test_a.py", "import time\ntime.sleep(seconds)\n"),
    (sleeping_tests, "tests/test_a.py", "import asyncio\nasync def f(): await asyncio.sleep(0)\n"),
    (sleeping_tests, "tests/test_a.py", "from anyio import sleep\nx = sleep(2 * 0.05)\n"),
    (sleeping_tests, "tests/conftest.py", "import asyncio as a\nx = a.sleep(delay=-1)\n"),
]

PLAIN = [
    ("src/sessile/__init__.py", DOC),
    (
        "src/sessile/core/a.py",
        DOC + "import json\nfrom sessile.core import ids\nx = json.dumps(1)\n",
    ),
    ("src/sessile/adapters/system.py", DOC + "import os\nimport uuid\nx = os.urandom(16)\n"),
    ("src/sessile/a.py", DOC + "import os\nx = os.environ\nTURN_KINDS = ('a',)\nnames = {}\n"),
    ("src/sessile/a.py", DOC + "returned = []\nTURN_ID = str\ndef f():\n    turns = []\n"),
    ("src/sessile/a.py", DOC + "def f():\n" + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)),
    ("src/sessile/verify/a.py", DOC + "import time\nimport httpx2\nimport sessile.verify.b\n"),
    ("tests/test_a.py", "import asyncio\nx = asyncio.sleep(delay)\nclock.sleep(5)\n"),
    ("tests/simulation/test_a.py", "import asyncio\nx = asyncio.sleep(5)\n"),
]


def plant(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("rule", RULES)
def test_the_project_is_tidy(rule: Callable[[Path], Iterator[Fault]]) -> None:
    faults = list(rule(ROOT))

    assert not faults, "\n".join(map(str, faults))


@pytest.mark.parametrize(("rule", "path", "text"), FAULTS)
def test_a_planted_fault_is_found_by_its_rule_alone(
    rule: Callable[[Path], Iterator[Fault]], path: str, text: str, tmp_path: Path
) -> None:
    plant(tmp_path, path, text)

    found = {each for each in RULES if list(each(tmp_path))}

    assert found == {rule}


@pytest.mark.parametrize(("path", "text"), PLAIN)
def test_what_breaks_no_rule_is_left_in_peace(path: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, path, text)

    assert [fault for rule in RULES for fault in rule(tmp_path)] == []


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule for rule, _, _ in FAULTS} == set(RULES)


def test_every_exception_is_of_something_that_exists() -> None:
    for exception, reason in SIZE_EXCEPTIONS.items():
        path, _, function = exception.partition("::")
        assert reason
        assert f"def {function}" in (ROOT / path).read_text(encoding="utf-8")
