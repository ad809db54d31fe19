"""Isolate the code of many archives in a process, though each has its ``inference`` and perhaps its ``helper``.

Every archive gets a package of its own, with a generated name, whose folders are the archive's. The archive's modules
have an ``__import__`` that searches this package first, at any time and in any thread. Libraries that import by name
(pickle, joblib, importlib) get a :class:`_Switchboard`, which stands for the module of the archive that runs.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType

_PREFIX = "sagemaker_model_"
_NUMBERS = itertools.count(1)
_CODES: dict[str, IsolatedCode] = {}
_RUNNING: ContextVar[IsolatedCode | None] = ContextVar("_RUNNING", default=None)


class IsolatedCode:
    """The modules of an archive. *folders* are searched in order."""

    def __init__(self, folders: Sequence[Path]) -> None:
        _install()
        self._package = f"{_PREFIX}{next(_NUMBERS)}"
        self._folders = [str(folder) for folder in folders]
        self._anchor = {"__name__": self._package, "__package__": self._package}
        self._own = _modules_in(folders)
        self.builtins = {**vars(builtins), "__import__": self._import}
        package = ModuleType(self._package)
        package.__path__ = self._folders
        sys.modules[self._package] = package
        _CODES[self._package] = self
        for name in self._own:
            if name not in sys.modules and not _is_installed(name):
                sys.modules[name] = _Switchboard(name)

    def has(self, name: str) -> bool:
        return name.partition(".")[0] in self._own

    def module(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self._package}.{name}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Give the archive's modules to imports by name from outside of it, in this thread and inside the block."""
        token = _RUNNING.set(self)
        try:
            yield
        finally:
            _RUNNING.reset(token)

    def forget(self) -> None:
        """Remove its modules from the process, and free their memory."""
        _CODES.pop(self._package, None)
        inside = (self._package, f"{self._package}.")
        for name in [name for name in sys.modules if name == inside[0] or name.startswith(inside[1])]:
            # Functions and their module refer to each other: without this, only the garbage collector frees them.
            vars(sys.modules.pop(name)).clear()
        for folder in [path for path in sys.path_importer_cache if path.startswith(tuple(self._folders))]:
            sys.path_importer_cache.pop(folder, None)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        locals: Mapping[str, object] | None = None,  # noqa: A002 - the signature of __import__
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and self.has(name):
            return __import__(name, self._anchor, None, fromlist, 1)
        if level == 0 and isinstance(sys.modules.get(name.partition(".")[0]), _Switchboard):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return __import__(name, globals, locals, fromlist, level)


class _Switchboard(ModuleType):
    """A stand-in in ``sys.modules`` for a module that several archives have."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # a package, so that its submodules are requested, too

    def __getattr__(self, attribute: str) -> object:
        code = _RUNNING.get()
        if code is None or not code.has(self.__name__):
            raise AttributeError(f"no model is running that has a module {self.__name__}")
        return getattr(code.module(self.__name__), attribute)


class _SwitchboardLoader(Loader):
    """Makes switchboards for the submodules of a switchboard."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Switchboard(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty."""


class _IsolatedLoader(SourceFileLoader):
    """Gives a module its archive's ``__import__`` before the module runs."""

    def __init__(self, fullname: str, path: str, code: IsolatedCode) -> None:
        super().__init__(fullname, path)
        self._code = code

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._code.builtins
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules of archives, and no others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        code = _CODES.get(top)
        if code is None:
            below = top != fullname and isinstance(sys.modules.get(top), _Switchboard)
            return ModuleSpec(fullname, _SwitchboardLoader(), is_package=True) if below else None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _IsolatedLoader(fullname, spec.loader.path, code)
        return spec


def _install() -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _modules_in(folders: Iterable[Path]) -> frozenset[str]:
    """List the names that can be imported from the folders, except those of the standard library."""
    names = {name for folder in folders for path in folder.iterdir() for name in _module_name(path)}
    return frozenset(names - sys.stdlib_module_names)


def _module_name(path: Path) -> Iterator[str]:
    name, _, suffix = path.name.partition(".")
    is_package = path.is_dir() and (path / "__init__.py").is_file()
    is_module = f".{suffix}" in (".py", *EXTENSION_SUFFIXES)
    # A folder without __init__.py is a package only if no installed one has its name.
    is_folder = path.is_dir() and not suffix and name.isidentifier() and not _is_installed(name)
    if is_module or is_package or is_folder:
        yield name


def _is_installed(name: str) -> bool:
    if isinstance(sys.modules.get(name), _Switchboard):
        return False
    with suppress(ImportError, ValueError):
        return importlib.util.find_spec(name) is not None
    return False
