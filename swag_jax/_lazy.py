"""Contents pages that import what they list when it is first asked for: a program pays for what it uses."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def page(module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` (PEP 562) of a package.

    Its names are what its source imports under `if TYPE_CHECKING`, so that type checkers read the same list. Modules of
    the package that are not listed are found too. `__all__` is set.
    """
    package = sys.modules[module]
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    lists = [node.body for node in tree.body if isinstance(node, ast.If)]
    imports = [node for body in lists for node in body if isinstance(node, ast.ImportFrom)]
    homes = {alias.name: str(node.module) for node in imports for alias in node.names}
    setattr(package, "__all__", list(homes))  # noqa: B010, type checkers take it for a list of names otherwise

    def find(name: str) -> Any:
        home = homes.get(name, module)
        if home == module and not name.startswith("__") and importlib.util.find_spec(f"{module}.{name}"):
            return importlib.import_module(f"{module}.{name}")
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = getattr(importlib.import_module(home), name)
        setattr(package, name, found)  # from now on without this function
        return found

    return find, lambda: sorted({*vars(package), *homes})
