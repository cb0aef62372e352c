"""The assistants of a Python file, as `sessile serve FILE.py[:NAME]` names them."""

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from sessile.cli.failure import CommandFailed
from sessile.cli.plain import lines
from sessile.kit.assistant import Assistant
from sessile.settings import Settings
from sessile.wiring import Server

FRAMES_MAX = 10


def load(target: str, settings: Settings) -> Server:
    """The server of the file, or one of all its assistants.

    Raises CommandFailed, which says what to do, where there is none.
    """
    path, name = _split(target)
    if not path.is_file():
        raise CommandFailed(f"there is no file {path}; give the path of a Python file")
    found = _named(_run(path), name) if name else _objects(_run(path))
    servers = [each for each in found.values() if isinstance(each, Server)]
    if len(servers) > 1:
        names = ", ".join(f"{path}:{name}" for name, each in found.items() if each in servers)
        raise CommandFailed(f"{path} has several servers; say which one: {names}")
    if servers:
        return servers[0]
    assistants = [each for each in found.values() if isinstance(each, Assistant)]
    if not assistants:
        raise CommandFailed(
            f"{path} has no assistant; add one at its top level, such as"
            ' `support = sessile.Assistant("support")`'
        )
    taken = [assistant.name for assistant in assistants]
    twice = sorted({each for each in taken if taken.count(each) > 1})
    if twice:
        raise CommandFailed(
            f"{path} has several assistants named {', '.join(twice)}; give each a name of its own"
        )
    try:
        return Server(*assistants, settings=settings)
    except Exception as error:
        raise CommandFailed(_told(error, path)) from error


def load_demo(settings: Settings) -> Server:
    """The server of the demos. Raises CommandFailed where something that they need is missing."""
    from sessile.demo.systems import demo_server  # noqa: PLC0415

    try:
        return demo_server(settings)
    except Exception as error:
        raise CommandFailed(_told(error, None)) from error


def _split(target: str) -> tuple[Path, str]:
    """A colon in a directory's name is no separator: a NAME is an identifier."""
    path, colon, name = target.rpartition(":")
    if colon and name.isidentifier():
        return Path(path), name
    return Path(target), ""


def _named(module: ModuleType, name: str) -> Mapping[str, Any]:
    found = _objects(module)
    if name not in found:
        known = ", ".join(found) or "none"
        raise CommandFailed(
            f"{module.__file__} has no assistant or server {name!r}; those it has: {known}"
        )
    return {name: found[name]}


def _objects(module: ModuleType) -> Mapping[str, Any]:
    """Each assistant and server once, by the first name that the module gives it."""
    found: dict[str, Any] = {}
    for name, value in vars(module).items():
        if isinstance(value, Assistant | Server) and all(
            value is not each for each in found.values()
        ):
            found[name] = value
    return found


def _run(path: Path) -> ModuleType:
    directory = str(path.absolute().parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    # Under its own name, so that a module that imports it back gets this one; but no name that
    # is taken, or a file called json.py would stand in for the library's.
    name = path.stem if path.stem not in sys.modules else f"sessile_app_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise CommandFailed(f"{path} is no Python file; give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise CommandFailed(_told(error, path)) from error
    return module


def _told(error: BaseException, path: Path | None) -> str:
    """What went wrong, with the frames of the user's own code and no others."""
    root = None if path is None else path.absolute().parent
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if root is not None and _own(Path(frame.filename), root)
    ]
    what = "".join(traceback.format_exception_only(error)).rstrip()
    where = "".join(traceback.format_list(frames[-FRAMES_MAX:]))
    source = "the demo" if path is None else str(path)
    return lines(f"{source} could not be loaded:\n{where}{what}")


def _own(file: Path, root: Path) -> bool:
    return file.is_relative_to(root) and "site-packages" not in file.parts
