"""
Prints the public API: each name with its parameters, fields and types, one per line.

    python tests/public_api.py > tests/public_api.txt

It reads the source code instead of the imported objects, so the text is the same on every Python.
"""

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import TypeAlias, TypeVar

# The documented modules, which stay compatible. Everything else may change without notice.
MODULES = (
    "gatepay_async",
    "gatepay_async.callbacks",
    "gatepay_async.durable",
    "gatepay_async.durable.objects",
    "gatepay_async.otel",
    "gatepay_async.pool",
    "gatepay_async.protocol.calls",
    "gatepay_async.protocol.catalogue",
    "gatepay_async.protocol.payment_calls",
    "gatepay_async.sandbox",
    "gatepay_async.testing",
    "gatepay_async.typing",
    "gatepay_async.words.problem",
)
# Names that a module imports on first use, because their extra may be missing.
LAZY = {"gatepay_async.callbacks": ["RedisStore"]}

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def public_names(module: ModuleType) -> list[str]:
    """Return the names in ``__all__``; without ``__all__``, the public names that the module defines."""
    listed: list[str] | None = getattr(module, "__all__", None)
    if listed is not None:
        # __version__ changes with every release.
        return [name for name in [*listed, *LAZY.get(module.__name__, ())] if name != "__version__"]
    return [name for node in statements(module) for name in names_of(node) if not name.startswith("_")]


@cache
def statements(module: ModuleType) -> list[ast.stmt]:
    """Return the statements of a module."""
    return ast.parse(inspect.getsource(module)).body


def names_of(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines. Imports define none."""
    if isinstance(node, ast.ClassDef | Function):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def definition(module: ModuleType, name: str) -> tuple[ModuleType, ast.stmt]:
    """Return where a name of *module* is defined: the module and the statement."""
    value = resolve(module, name)
    for candidate in (module, sys.modules.get(getattr(value, "__module__", ""), module), *our_modules()):
        # `tuple[str, str]`, for example, belongs to builtins, which has no source file.
        has_value = hasattr(candidate, "__file__") and getattr(candidate, name, None) is value
        for node in statements(candidate) if has_value else ():
            if name in names_of(node):
                return candidate, node
    raise LookupError(f"{module.__name__}.{name} is defined nowhere")


def resolve(module: ModuleType, name: str) -> object:
    """Return the object *name* of *module*, even if only type checkers import it; None for a builtin."""
    for node in ast.walk(ast.Module(statements(module), [])) if not hasattr(module, name) else ():
        is_ours = isinstance(node, ast.ImportFrom) and str(node.module).startswith("gatepay_async")
        if isinstance(node, ast.ImportFrom) and is_ours and any(alias.name == name for alias in node.names):
            return getattr(importlib.import_module(str(node.module)), name)
    return getattr(module, name, None)


def our_modules() -> list[ModuleType]:
    """Return all modules of this package that are imported."""
    return [module for name, module in sorted(sys.modules.items()) if name.startswith("gatepay_async.")]


def is_constructed(node: ast.stmt, value: object) -> bool:
    """Whether users create instances: the class documents ``Args:``, or it is an error, which tests raise."""
    is_error = isinstance(value, type) and issubclass(value, BaseException)
    return is_error or not isinstance(node, ast.ClassDef) or "Args:" in (ast.get_docstring(node) or "")


def lines_of_name(module: ModuleType, name: str) -> Iterator[str]:
    """Yield the lines of one public name."""
    _, node = definition(module, name)
    for line in statement(f"{module.__name__}.{name}", node):
        if is_constructed(node, getattr(module, name)) or ".__init__: " not in line:
            yield line
    for _, base in base_classes(module, name):
        for inner in base.body:
            if names_of(inner) != ["__init__"]:
                yield from member(f"{module.__name__}.{name}", inner)


def base_classes(module: ModuleType, name: str) -> Iterator[tuple[ModuleType, ast.ClassDef]]:
    """Yield the bases of the client's and the sandbox's class: their public methods count as the class's own."""
    value = getattr(module, name)
    for base in value.__mro__[1:] if isinstance(value, type) else ():
        if base.__module__.startswith(("gatepay_async.client.", "gatepay_async.sandbox.")):
            defining_module, node = definition(sys.modules[base.__module__], base.__name__)
            if isinstance(node, ast.ClassDef):
                yield defining_module, node


def aliases(module: ModuleType, name: str) -> Iterator[str]:
    """Yield the definitions of our type aliases in the annotations of *name*, such as ``Lines = Iterable[…] | …``."""
    annotated = [
        (defining_module, inner)
        for defining_module, node in [definition(module, name), *base_classes(module, name)]
        for inner in ast.walk(node)
        if isinstance(inner, ast.arg | ast.AnnAssign | Function)
    ]
    for defining_module, node in annotated:
        annotation = node.returns if isinstance(node, Function) else node.annotation
        for used in ast.walk(annotation) if annotation is not None else ():
            value = resolve(defining_module, used.id) if isinstance(used, ast.Name) else None
            if value is None or isinstance(value, type | TypeVar | ModuleType) or not isinstance(used, ast.Name):
                continue
            if used.id not in foreign_names(defining_module):
                alias_module, alias = definition(defining_module, used.id)
                yield from statement(f"{alias_module.__name__}.{used.id}", alias)


@cache
def foreign_names(module: ModuleType) -> frozenset[str]:
    """Return the names that *module* imports from other packages, such as ``Any``."""
    imports = [node for node in ast.walk(ast.Module(statements(module), [])) if isinstance(node, ast.ImportFrom)]
    foreign_imports = [node for node in imports if not str(node.module).startswith("gatepay_async")]
    return frozenset(alias.asname or alias.name for node in foreign_imports for alias in node.names)


def statement(full_name: str, node: ast.stmt) -> Iterator[str]:
    """Yield the line of a definition, and those of its public members."""
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
        decorators = "".join(f" @{ast.unparse(decorator)}" for decorator in node.decorator_list)
        yield f"{full_name}: class({bases}){decorators}"
        yield from (line for inner in node.body for line in member(full_name, inner))
    elif isinstance(node, Function):
        yield f"{full_name}: {signature(node)}"
    elif isinstance(node, ast.AnnAssign):
        annotation = ast.unparse(node.annotation)
        value = f" = {ast.unparse(node.value)}" if annotation == "TypeAlias" and node.value else default(node.value)
        yield f"{full_name}: {annotation}{value}"
    elif isinstance(node, ast.Assign):
        yield f"{full_name} = {ast.unparse(node.value)}"


def default(value: ast.expr | None) -> str:
    """Return `` = 1``, for example. For an attrs field, return only what concerns a caller, not the validators."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        shown = [
            ast.unparse(keyword)
            for keyword in value.keywords
            if keyword.arg in ("default", "factory", "init", "kw_only")
        ]
        return f" = field({', '.join(shown)})"
    return f" = {ast.unparse(value)}" if isinstance(value, ast.Constant) else ""


def member(full_name: str, node: ast.stmt) -> Iterator[str]:
    """Yield the lines of a member of a class: the constructor, or a public method, property or field."""
    for name in names_of(node):
        if name == "__init__" or not name.startswith("_"):
            yield from statement(f"{full_name}.{name}", node)


def signature(node: Function) -> str:
    """Return ``async (product_id: int, *, page: int = 1) -> CardKeyPage``, for example; of a property, its type."""
    result = ast.unparse(node.returns) if node.returns is not None else "?"
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if "property" in decorators:
        return f"property -> {result}"
    kinds = [name for name in decorators if name in ("classmethod", "staticmethod", "asynccontextmanager", "overload")]
    if isinstance(node, ast.AsyncFunctionDef):
        kinds.append("async")
    return " ".join([*kinds, f"({ast.unparse(node.args)}) -> {result}"])


def api(name: str) -> str:
    """Return one module's part of public_api.txt: its names, then the type aliases in their annotations."""
    module = importlib.import_module(name)
    names = sorted(public_names(module))
    lines = [line for public_name in names for line in lines_of_name(module, public_name)]
    used = {line for public_name in names for line in aliases(module, public_name)}
    statements.cache_clear()  # trees are large
    return "\n".join([f"# {name}", *lines, *sorted(used - set(lines))]) + "\n"


if __name__ == "__main__":
    sys.stdout.write("\n".join(map(api, MODULES)))
