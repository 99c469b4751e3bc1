"""Rules for the source code: public names, layers, forbidden imports and names, and reasons for ignored rules."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from attrs import frozen
from tables import rows  # runs a test once per row, as one pytest test

import gatepay_async
from gatepay_async import callbacks

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
PACKAGE = Path(gatepay_async.__file__).parent  # the installed package, if that is tested
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCE_FILES = sorted(path for folder in ("src", "tests", "examples") for path in (ROOT / folder).rglob("*.py"))

# The contract: other code depends on these names.
CONTRACT = """
    AlreadyStoredError AsyncGatePay Callback CallbackError CallbackReply CallbackSignatureError CardKey CardKeyPage
    Catalog Category ChunkOutcome DeadlineExceededError DuplicateKeysError EmptyContentError EndpointClosedError
    GatePayError InvalidAppKeyError InvalidPageError InvalidPayTypeError InvalidProductError InvalidQuantityError
    InvalidRequestError LicenceExpiredError MalformedCallbackError MissingParameterError NoPayTypeAvailableError
    OutOfStockError OutcomeUnknownError PayType Payment Product ProductNotFoundError ProtocolError QrCode
    QuotaExceededError RawReply RefusedError RetryPolicy ShopNotFoundError SignatureRejectedError SingleItemOnlyError
    StaleCallbackError StorageFailedError Stored TooManyKeysError TransportError UploadIncomplete UploadProgress
    UploadReport parse_callback
    InvalidPriceError OrderNotFoundError OrderStatus PayTypeClosedError PaymentLink PaymentReturn
""".split()  # noqa: SIM905 -- easier to read than fifty quoted names
# The public names that are not in the contract.
ADDED = """
    AppKeyExpiredError CallbackUrlMissingError CardKeyListing Fate InvalidArgumentError NotAnAgentError OrderFailedError
    ProductUnavailableError StockAlert StockWatch UnexpectedParameterError UnknownFailureError __version__
    new_out_order_id
""".split()  # noqa: SIM905 -- easier to read than quoted names

# Module or package -> what it may import from this package; a name with a dot is a single module.
MAY_IMPORT: dict[str, set[str]] = {
    # Imported on first use of a name.
    "__init__": {"client", "order_ids", "listing", "protocol", "stock_watch", "version"},
    "version": set(),
    "words": {"words"},
    "protocol": {"protocol", "words"},
    "pool": {"pool", "words"},
    "event_loop": set(),
    "cancelling": {"event_loop", "protocol"},
    "exchange": {"event_loop", "exchange", "pool", "protocol", "version", "words"},
    "listing": {"protocol", "walking", "words"},
    "walking": {"cancelling", "protocol", "words"},
    "dedup": {"protocol", "sqlite_files"},
    "lines": {"protocol", "words"},
    "permits": {"protocol"},
    "sending": {"protocol"},
    "upload": {"cancelling", "dedup", "lines", "permits", "protocol", "sending", "words"},
    "client": {
        "client",
        "event_loop",
        "exchange",
        "lines",
        "listing",
        "log",
        "permits",
        "protocol",
        "stock_watch",
        "upload",
        "words",
    },
    "log": {"protocol"},
    "stock_watch": {"log", "protocol"},
    "order_ids": set(),
    "sqlite_files": set(),
    "callbacks": {"callbacks", "event_loop", "protocol", "sqlite_files", "words"},
    "sandbox": {"sandbox", "sqlite_files", "words"},
    # Each command imports what it needs.
    "cli": {
        "callbacks",
        "cli",
        "client",
        "dedup",  # `--dry-run` deduplicates as an upload does
        "durable",
        "exchange",
        "order_ids",
        "protocol",
        "sandbox",
        "testing",
        "version",
        "words",
    },
    "otel": {"exchange.port", "otel", "protocol", "version", "words"},
    "testing": {"protocol", "words"},
    "typing": {"callbacks", "lines", "protocol", "upload"},
    "durable": {"cancelling", "client", "dedup", "durable", "permits", "protocol", "sending", "sqlite_files", "words"},
}
# Module or package in durable/ -> what it may import from durable/. Those that are not listed may import all of it.
WITHIN_DURABLE: dict[str, set[str]] = {
    "errors": set(),
    "records": {"errors", "records"},
    "storage": {"errors", "records", "storage"},
    "spool": {"errors", "records", "spool"},
    "work": {"errors", "records", "spool", "storage", "work"},
}
# A foreign package -> the only modules that may import it.
ONLY_IN = {
    "cattrs": {"protocol.converters"},
    "msgspec": {"protocol.codec"},
    "httpx": {"pool", "exchange", "client", "cli.commands.callback", "cli.commands.doctor"},
    "aiohttp": set(),  # only a user's own transport uses it
    "httpcore": {"pool"},
    "httpx2": set(),  # imported for type checkers only
    "httptools": {"pool.responses"},
    "starlette": {"sandbox"},
    "uvicorn": {"cli.callback_server", "sandbox"},
    "segno": {"cli.commands.pay", "sandbox"},
    "pytest": set(),  # the pytest plugin is outside of the package
    "jinja2": {"sandbox"},
    "markupsafe": {"sandbox"},
    "h11": {"sandbox"},
    "sqlite3": {
        "callbacks.sqlite",
        "callbacks.sqlite_file",
        "cli.commands.sandbox",
        "durable.storage.database",
        "durable.storage.worker_locks",
        "sandbox",
        "sqlite_files",
    },
    "redis": {"callbacks.redis_store"},
    "rich": {"cli.screens"},
    "keyring": {"cli.keyrings"},
    "dotenv": {"cli.env_files"},
    "xlsxwriter": {"cli.files.writing"},
    "typer": {"cli.app", "cli.help_texts", "cli.usage", "cli.profiles", "cli.runner"},
    "dbos": {"durable"},
    "sqlalchemy": {"durable"},
    "obstore": {"durable.objects"},
    "opentelemetry": {"otel"},
}
# The client's settings, proxies and certificates.
MAY_READ_ENVIRONMENT = ("client.settings", "exchange.proxies", "exchange.trust")
# A private name with several definitions -> why that is allowed. Any other private name has one meaning.
SHARED_NAMES = {
    "_common_fields": "a class and its base",
    "_instrument": "called by `otel.instrument` on any object that it instruments",
    "_reason": "says why a connection failed; asyncio's errors and anyio's have the reason in different places",
}
# Modules for I/O, waiting, clocks, randomness and the environment. protocol/ imports none of them.
SIDE_EFFECT_MODULES = {
    "anyio", "asyncio", "trio", "io", "logging", "os", "pathlib", "random", "secrets", "select", "shutil", "socket",
    "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "warnings",
}  # fmt: skip
# For QrCode.save(path), which is in the contract.
ALLOWED_SIDE_EFFECTS = {("protocol.models", "os"), ("protocol.models", "pathlib")}


def module_of(path: Path) -> str:
    """Return the name of the module in a file: ``protocol.codec`` for ``…/gatepay_async/protocol/codec.py``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def top_module_of(module: str) -> str:
    """Return the first part of a module's name: ``protocol`` for ``protocol.codec``."""
    return module.partition(".")[0]


@frozen
class FileFacts:
    """
    The facts about a file that the guards check. Keeping all syntax trees would slow down garbage collection.

    Attributes:
        imports: The imported names, without imports for type checkers.
        attributes: Every attribute that the file reads, such as `os.environ` and `self._credentials.appsecret`.
        names: Every name that the file uses.
        private_definitions: The private functions, methods and classes, and the private constants of the module.
        is_async: Whether the file contains `async def` or `await`.
    """

    imports: list[str]
    attributes: list[str]
    names: set[str]
    private_definitions: list[str]
    is_async: bool


@cache
def facts_of(path: Path) -> FileFacts:
    module = ast.parse(path.read_text("utf-8"))
    nodes = list(ast.walk(module))
    only_types = {
        inner
        for node in nodes
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return FileFacts(
        imports=[name for node in nodes if node not in only_types for name in imported_by(node)],
        attributes=[dotted(node) for node in nodes if isinstance(node, ast.Attribute)],
        names={node.id for node in nodes if isinstance(node, ast.Name)},
        private_definitions=[
            name for name in defined_names(nodes, module) if name.startswith("_") and not name.startswith("__")
        ],
        is_async=any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in nodes),
    )


def defined_names(nodes: list[ast.AST], module: ast.Module) -> Iterator[str]:
    """Yield the names of the functions, methods and classes in *nodes*, and of the constants of *module*."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
    for node in module.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (inner.id for target in targets for inner in ast.walk(target) if isinstance(inner, ast.Name))


def dotted(node: ast.expr) -> str:
    """Return a name with dots: ``os.environ``. After another expression, as in ``f().appsecret``: ``.appsecret``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported_by(node: ast.AST) -> list[str]:
    """Return the full names that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide which package is meant"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def test_public_names_are_sorted_and_exist() -> None:
    """`__all__` has the names of CONTRACT and ADDED, sorted, and each of them exists."""
    assert sorted(CONTRACT + ADDED, key=sort_key) == gatepay_async.__all__
    assert all(hasattr(gatepay_async, name) for name in gatepay_async.__all__)


def sort_key(name: str) -> tuple[str, ...]:
    """Return the key by which ruff sorts `__all__`: classes before functions."""
    return ("0" if name[0].isupper() else "1", name)


def test_public_names_of_callbacks_are_sorted_and_exist() -> None:
    """`callbacks.__all__` is sorted, and each name exists. RedisStore exists too, but needs an extra."""
    names = ["CallbackApp", "CallbackEvent", "CallbackReply", "Claim", "EventKind", "MemoryStore", "SQLiteStore"]
    names += ["Standing", "Store"]
    assert sorted(callbacks.__all__, key=sort_key) == callbacks.__all__ == names
    assert all(hasattr(callbacks, name) for name in [*names, "RedisStore"])


def test_no_logic_in_init() -> None:
    """The package's `__init__.py` has only imports, `__all__` and the functions that import names on first use."""
    body = ast.parse((PACKAGE / "__init__.py").read_text("utf-8")).body
    assert {type(node) for node in body} == {ast.Expr, ast.ImportFrom, ast.Assign, ast.If}
    for_type_checkers, at_run_time = (node for node in body if isinstance(node, ast.If))
    assert {type(node) for node in for_type_checkers.body} == {ast.ImportFrom}
    assert [node.name for node in at_run_time.body if isinstance(node, ast.FunctionDef)] == ["__getattr__", "__dir__"]


def test_names_are_imported_on_first_use() -> None:
    """Importing the package doesn't import its modules; using a name does. An unknown name raises AttributeError."""
    program = (
        "import sys, gatepay_async; before = set(sys.modules); from gatepay_async import parse_callback;"
        "print('httpx' in before, 'gatepay_async.protocol' in before, 'httpx' in sys.modules);"
        "print(set(gatepay_async.__all__) == set(dir(gatepay_async)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "False", "False", "True"]
    assert set(dir(gatepay_async)) == set(gatepay_async.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gatepay_async.nothing  # type: ignore[attr-defined]  # tests the error


@rows("path", MODULES)
def test_modules_import_only_lower_layers(path: Path) -> None:
    """Modules import only what MAY_IMPORT allows, and foreign packages only where ONLY_IN allows them."""
    module = module_of(path)
    for imported in facts_of(path).imports:
        own_module = imported.removeprefix("gatepay_async.")
        if own_module != imported:
            allowed = MAY_IMPORT[top_module_of(module)]
            assert top_module_of(own_module) in allowed or any(
                f"{own_module}.".startswith(f"{name}.") for name in allowed
            ), f"{module} must not import {imported}"
            package, _, module_in_package = own_module.partition(".")
            if top_module_of(module) == package == "durable":
                importer = top_module_of(module.removeprefix("durable."))
                assert top_module_of(module_in_package) in WITHIN_DURABLE.get(
                    importer, {top_module_of(module_in_package)}
                ), f"{module} must not import {imported}"
        importers = ONLY_IN.get(top_module_of(imported))
        assert importers is None or module in importers or top_module_of(module) in importers, f"{imported} in {module}"


@rows("path", [path for path in MODULES if "protocol" in path.parts])
def test_protocol_has_no_side_effects(path: Path) -> None:
    """The modules of protocol/ do no I/O, use no async, and read no clock and no randomness."""
    module = module_of(path)
    for imported in facts_of(path).imports:
        for forbidden in SIDE_EFFECT_MODULES:
            if f"{imported}.".startswith(f"{forbidden}."):
                assert (module, forbidden) in ALLOWED_SIDE_EFFECTS, f"{module} imports {imported}"
    assert not facts_of(path).is_async
    assert not {"open", "print", "input"} & facts_of(path).names
    assert not [read for read in facts_of(path).attributes if read.endswith((".now", ".today", ".utcnow"))]


@rows("path", MODULES)
def test_forbidden_names_are_not_used(path: Path) -> None:
    """
    No module prints. Only cli/ exits.

    Only cli/ and MAY_READ_ENVIRONMENT read the environment. Only `protocol.signing` and the sandbox read an appsecret.
    """
    module = module_of(path)
    assert "print" not in facts_of(path).names
    for read in facts_of(path).attributes:
        assert read not in ("time.sleep", "os.getenv")
        assert read != "sys.exit" or module in ("cli.app", "cli.entry")
        assert read != "os.environ" or module in MAY_READ_ENVIRONMENT or top_module_of(module) == "cli"
        # The sandbox stands in for GatePay, and has its own secrets.
        assert not read.endswith(".appsecret") or module == "protocol.signing" or top_module_of(module) == "sandbox"


def test_private_names_have_one_meaning() -> None:
    """No two functions, methods, classes or constants have the same private name, except those in SHARED_NAMES."""
    modules_by_name: dict[str, list[str]] = {}
    for path in MODULES:
        for name in facts_of(path).private_definitions:
            modules_by_name.setdefault(name, []).append(module_of(path))
    shared = {name: modules for name, modules in modules_by_name.items() if len(modules) > 1}
    assert {name: modules for name, modules in shared.items() if name not in SHARED_NAMES} == {}
    assert shared.keys() == SHARED_NAMES.keys()


@rows("path", SOURCE_FILES)
def test_ignored_rules_have_reasons(path: Path) -> None:
    """Every `noqa`, `type: ignore` and `pyright: ignore` states its reason."""
    for line in path.read_text("utf-8").splitlines():
        for match in re.finditer(r"# (noqa|type: ignore|pyright: ignore|pragma: no)\b", line):
            if path.name != Path(__file__).name:  # this file contains the patterns
                comment = line[match.start() :]
                assert re.match(r"# (noqa: [A-Z0-9, ]+ -- \w|type: ignore\[[\w, -]+\]  # \w)", comment) or re.match(
                    r"# pyright: ignore\[\w+\] -- \w", comment
                ), line


@rows("path", sorted((ROOT / "tests").rglob("test_*.py")))
def test_skipped_tests_have_reasons(path: Path) -> None:
    """Every test that is skipped or expected to fail states a reason."""
    marks = [line for line in path.read_text("utf-8").splitlines() if line.lstrip().startswith("@pytest.mark.")]
    assert not [line for line in marks if re.match(r"\s*@pytest\.mark\.(skip|xfail)", line) and "reason=" not in line]


def test_selected_tests_of_anywhere_exist() -> None:
    """Each test that `tests/anywhere.py` names exists. Without this, only the weekly run notices a renamed test."""
    selected = re.findall(
        r'^    "(tests/[\w/]+\.py)(?:::(\w+))?",$', (ROOT / "tests/anywhere.py").read_text("utf-8"), re.MULTILINE
    )
    assert selected
    for file, name in selected:
        assert f"def {name}(" in (ROOT / file).read_text("utf-8") or not name, name


def test_uvicorn_commands_disable_the_access_log() -> None:
    """Each uvicorn command in the docs and examples has --no-access-log: the log would contain signatures."""
    texts = [
        path.read_text("utf-8") for name in ("docs", "examples") for path in (ROOT / name).rglob("*.*")
        if path.suffix in (".md", ".py")
    ]  # fmt: skip
    lines = [line for text in texts for line in text.splitlines() if re.search(r"\buvicorn \w+:app\b", line)]
    assert lines
    assert [line for line in lines if "--no-access-log" not in line] == []


def test_change_log_has_the_current_version() -> None:
    """The newest section of the change log is this version's, and towncrier can read the names of all fragments."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "keepachangelog.com" in text
    assert re.findall(r"<!-- the next release -->\n\n## \[(.+?)\] - \d{4}-\d\d-\d\d\n", text) == [
        gatepay_async.__version__
    ]
    kinds = "added|changed|deprecated|removed|fixed|security"
    names = {path.name for path in (ROOT / "changelog.d").iterdir()} - {"README.md", "template.md.jinja"}
    assert [name for name in names if not re.fullmatch(rf"[\w+-]+\.({kinds})\.md", name)] == []
