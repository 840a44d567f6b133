"""Load workflows by `MODULE:NAME`. One message says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import stepwire.workflow
from stepwire.server.registry import Registry
from stepwire.workflow.hosting import (
    Workflow,
    WorkflowConfigurationError,
    WorkflowValidationError,
    adopt,
    is_adoptable,
    steps_of,
)

__all__ = ["LoadError", "Loadable", "load", "load_all", "package_of"]

Loadable = Workflow | type[Workflow]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ENGINE = str(Path(stepwire.workflow.__file__).parent.parent)


class LoadError(Exception):
    """A workflow cannot be loaded. The message says what is wrong, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Spec:
    """The parts of `MODULE[:NAME][=SERVED_NAME]`. `module` is a dotted name or a path that ends in `.py`."""

    module: str
    name: str = ""
    served: str = ""

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Return the parts of a spec. Raises LoadError when the text is not a spec."""
        rest, found, served = text.rpartition("=")
        if not found:
            rest, served = text, ""
        elif not _NAME.fullmatch(served):
            if _NAME.fullmatch(rest) and ":" in served:
                raise LoadError(f"{text}: the served name comes last: did you mean {served}={rest}?")
            raise LoadError(f"{text}: a served name has letters, digits, '.', '_' and '-' only: MODULE:NAME=name")
        module, name = rest, ""
        if not rest.endswith(".py"):
            head, colon, tail = rest.rpartition(":")
            if colon:
                module, name = head, tail
        parts = name.split(".") if name else []
        if not module or (rest != module and not name) or not all(part.isidentifier() for part in parts):
            raise LoadError(f"{text!r}: expected MODULE:NAME, as in orders:OrderFlow or flows/orders.py:OrderFlow")
        return cls(module, name, served)


def package_of(spec: str) -> str:
    """Return the top-level package that a spec names, or the name of its file. The spec need not be valid."""
    module = spec.partition("=")[0].partition(":")[0]
    return Path(module).stem if module.endswith(".py") else module.partition(".")[0]


def load(spec: str) -> list[tuple[str, Loadable]]:
    """Return the workflows that a spec names, each with the name to serve it under.

    `MODULE:NAME` names one. `MODULE` alone names every Workflow class and instance that the module defines, except
    names with a leading underscore and classes without steps. The current directory is importable.

    Raises:
        LoadError: The spec names nothing that can be served.
    """
    parts = Spec.parse(spec)
    if (cwd := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, cwd)
    module = _import(parts.module)
    if parts.name:
        return [(parts.served or parts.name.rpartition(".")[2], _find(module, parts.name))]
    found = _defined(module)
    if not found:
        bare = [name for name, value in vars(module).items() if _is_own_class(module, value) and name[0] != "_"]
        if bare:
            raise LoadError(f"{' and '.join(bare)} ({_file(module)}) has no steps: mark methods with @step")
        raise LoadError(f"{parts.module} ({_file(module)}) defines no workflow: name a module with a Workflow class")
    if parts.served and len(found) > 1:
        names = ", ".join(name for name, _ in found)
        raise LoadError(f"{spec}: {parts.module} defines several workflows ({names}): say which, as MODULE:NAME=name")
    return [
        (parts.served or name, _adopted(item, module, name) if is_adoptable(item) else item) for name, item in found
    ]


def load_all(registry: Registry, specs: Iterable[str]) -> None:
    """Load workflows into a registry. Raises LoadError for the first that cannot be served."""
    for spec in specs:
        for name, item in load(spec):
            try:
                registry.add(name, item)
            except (WorkflowConfigurationError, WorkflowValidationError) as error:
                where = _where(item, getattr(error, "step", ""))
                hint = f"; serve it as {_renamed(spec, item)}" if "two workflows are named" in str(error) else ""
                raise LoadError(f"{name} ({where}) cannot be served: {error}{hint}") from error
            except Exception as error:  # the author's __init__ and schemas may raise anything
                where = _line_of(error) or _where(item)
                raise LoadError(f"{name} cannot be constructed: {_say(error)} ({where})") from error


def _renamed(spec: str, item: Loadable) -> str:
    """Return the spec that serves an item under another name; that of a module does not say which item it is."""
    bare = spec.rpartition("=")[0] or spec
    parts = Spec.parse(bare)
    if not parts.name:
        found = [name for name, each in _defined(_import(parts.module)) if each is item]
        bare = ":".join([bare, *found])
    return f"{bare}=other-name"


def _import(name: str) -> ModuleType:
    path: Path | None = None
    module_name = name
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise LoadError(f"there is no file {name}{_similar_files(path)}")
        module_name = _make_importable(path)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise LoadError(_no_module(name, error.name)) from error
        hint = "install it, or add its directory to PYTHONPATH"
        raise LoadError(f"cannot import {name}: {_say(error)}{_at(error)}: {hint}") from error
    except SystemExit as error:
        hint = 'put what the script does under if __name__ == "__main__":'
        raise LoadError(f"{name} exits when it is imported{_at(error)}: {hint}") from error
    except Exception as error:  # a module may raise anything
        raise LoadError(f"cannot import {name}: {_say(error)}{_at(error)}") from error
    loaded = getattr(module, "__file__", None)
    if path is not None and (loaded is None or Path(loaded).resolve() != path):
        raise LoadError(f"{name} would be module {module_name}, which is {loaded or 'built in'}: rename the file")
    return module


def _make_importable(path: Path) -> str:
    """Return the module name of a file, with its packages, and make their parent directory importable."""
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    bad = [part for part in parts if not part.isidentifier()]
    if bad or not parts:
        raise LoadError(f"{path.name} is not importable: rename it to letters, digits and '_' ({path})")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return ".".join(parts)


def _find(module: ModuleType, name: str) -> Loadable:
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            known = [known for known, _ in _defined(module)]
            close = difflib.get_close_matches(part, {*known, *vars(module)}, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(close)}?" if close else ""
            listed = f"it defines {', '.join(known)}" if known else "it defines no workflow"
            raise LoadError(f"{module.__name__} ({_file(module)}) has no {name}: {hint or listed}") from None
    if is_adoptable(found):
        return _adopted(found, module, name)
    if isinstance(found, Workflow) or (isinstance(found, type) and issubclass(found, Workflow)):
        if found is Workflow:
            raise LoadError(f"{name} is the class Workflow itself: name a subclass of it")
        return found
    kind = "a class that is not a Workflow" if isinstance(found, type) else f"a {type(found).__name__}"
    raise LoadError(
        f"{module.__name__}:{name} ({_where(found) or _file(module)}) is {kind}: "
        "name a workflow of Stepwire or of LlamaIndex, a class or an object"
    )


def _adopted(found: Any, module: ModuleType, name: str) -> Workflow:
    """Return the Workflow for a workflow or an agent of LlamaIndex."""
    try:
        return adopt(found, module=module.__name__)
    except (WorkflowConfigurationError, WorkflowValidationError) as error:
        raise LoadError(f"{name} ({_where(found) or _file(module)}) cannot be served: {error}") from error
    except Exception as error:  # the author's __init__ may raise anything
        raise LoadError(f"{name} cannot be constructed: {_say(error)} ({_line_of(error) or _where(found)})") from error


def _defined(module: ModuleType) -> list[tuple[str, Loadable]]:
    found: list[tuple[str, Loadable]] = []
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        own = _is_own_class(module, value) and name == value.__name__ and steps_of(value)
        theirs = is_adoptable(value) and (not isinstance(value, type) or value.__module__ == module.__name__)
        if own or theirs or isinstance(value, Workflow):
            found.append((name, value))
    made = {type(value) for _, value in found}
    # Of a class of LlamaIndex an object is served, if the module makes one: only it has its tools and settings.
    return [(name, value) for name, value in found if not (is_adoptable(value) and value in made)]


def _is_own_class(module: ModuleType, value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Workflow) and value.__module__ == module.__name__


def _say(error: BaseException) -> str:
    # The text of a SyntaxError names its place in its own way.
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _line_of(error: BaseException) -> str:
    """Return the file and line of the author's code that raised an error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and not frame.filename.startswith((importlib.__path__[0], __file__))
    ]
    own = [frame for frame in frames if "site-packages" not in frame.filename and _ENGINE not in frame.filename]
    if not (own or frames):
        return ""
    frame = (own or frames)[-1]
    return f"{_short(frame.filename)}:{frame.lineno}"


def _at(error: BaseException) -> str:
    """Return the line of an error in parentheses; "" when no code raised it, as for a file that cannot be read."""
    line = _line_of(error)
    return f" ({line})" if line else ""


def _where(item: Any, step: str = "") -> str:
    """Return the file and line of a class or function, or of one of its steps; "" when unknown."""
    target = item if inspect.isclass(item) or inspect.isroutine(item) else type(item)
    if step:
        target = inspect.unwrap(getattr(target, step, target))
    try:
        return f"{_short(inspect.getsourcefile(target) or '')}:{inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):  # built in, or made at run time
        return ""


def _file(module: ModuleType) -> str:
    return _short(getattr(module, "__file__", None) or "built in")


def _short(file: str) -> str:
    path = Path(file)
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _no_module(name: str, missing: str) -> str:
    package, _, last = missing.rpartition(".")
    if package:
        parent = sys.modules.get(package)
        if missing == name and hasattr(parent, last):
            return f"{package} has no module {last}: did you mean {package}:{last}?"
        path = list(getattr(parent, "__path__", []))
    else:
        path = [str(Path.cwd())]
    near = difflib.get_close_matches(last, [item.name for item in pkgutil.iter_modules(path)], n=3, cutoff=0.6)
    if near:
        hint = f"did you mean {' or '.join(f'{package}.{item}' if package else item for item in near)}?"
    else:
        hint = "run from the directory it is in, install it, or give its path as path/to/file.py:NAME"
    wanted = f", wanted for {name}," if missing != name else ""
    return f"there is no module {missing}{wanted} in {path[0] if path else package} or the Python path: {hint}"


def _similar_files(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no directory {_short(str(path.parent))}"
    near = difflib.get_close_matches(path.name, [item.name for item in path.parent.glob("*.py")], n=3, cutoff=0.6)
    return f": did you mean {' or '.join(near)}?" if near else f" (in {_short(str(path.parent))})"
