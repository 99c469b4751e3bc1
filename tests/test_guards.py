"""What holds for the whole house: its public names, its layers, its nevers, and how its tests are written."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from attrs import frozen
from tables import rows

import gatepay_async
from gatepay_async import callbacks

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "gatepay_async"
PACKAGE = Path(gatepay_async.__file__).parent  # what is installed, when that is what is tested
MODULES = sorted(PACKAGE.rglob("*.py"))
WRITTEN = sorted(path for folder in ("src", "tests", "examples") for path in (ROOT / folder).rglob("*.py"))

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
""".split()  # noqa: SIM905 -- fifty names in quotes are no easier to read
# What we added to it.
ADDED = """
    AppKeyExpiredError CallbackUrlMissingError CardKeyListing Fate NotAnAgentError OrderFailedError
    ProductUnavailableError StockAlert StockWatch UnexpectedParameterError UnknownFailureError __version__
    new_out_order_id
""".split()  # noqa: SIM905 -- as above

# Room -> the rooms it may import; a dotted one is a single module.
MAY_IMPORT: dict[str, set[str]] = {
    # Not imported yet: a name is, when it is first asked for.
    "__init__": {"client", "order_ids", "listing", "protocol", "stock_watch", "version"},
    "version": set(),
    "words": {"words"},
    "protocol": {"protocol", "words"},
    "pool": {"pool", "words"},
    "event_loop": set(),
    "cancelling": {"event_loop", "protocol"},
    "exchange": {"event_loop", "exchange", "pool", "protocol", "version", "words"},
    "listing": {"cancelling", "protocol", "words"},
    "dedup": {"protocol"},
    "lines": {"protocol", "words"},
    "permits": {"protocol"},
    "sending": {"event_loop", "protocol"},
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
    "sandbox": {"sandbox", "words"},
    # It may use all, each part within the command that needs it.
    "cli": {
        "callbacks",
        "cli",
        "client",
        "dedup",  # a rehearsal looks for repetitions as an upload does
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
# The same within durable/. Its other modules are its doors, and import all of it.
WITHIN_DURABLE: dict[str, set[str]] = {
    "errors": set(),
    "records": {"errors", "records"},
    "storage": {"errors", "records", "storage"},
    "spool": {"errors", "records", "spool"},
    "work": {"errors", "records", "spool", "storage", "work"},
}
# A foreign package -> where alone it may be imported.
ONLY_IN = {
    "cattrs": {"protocol.converters"},
    "msgspec": {"protocol.codec"},
    "httpx": {"pool", "exchange", "client", "cli.commands.callback", "cli.commands.doctor"},
    "aiohttp": set(),  # a user's transport may use it
    "httpcore": {"pool"},
    "httpx2": {"client.gatepay", "exchange.libraries"},  # for type checkers alone
    "httptools": {"pool.responses"},
    "starlette": {"sandbox"},
    "uvicorn": {"cli.callback_server", "sandbox"},
    "segno": {"cli.commands.pay", "sandbox"},
    "pytest": set(),  # the plugin is no part of the package
    "jinja2": {"sandbox"},
    "markupsafe": {"sandbox"},
    "h11": {"sandbox"},
    "sqlite3": {
        "callbacks.sqlite",
        "callbacks.sqlite_file",
        "cli.commands.sandbox",
        "dedup",
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
    "typer": {"cli.app", "cli.usage", "cli.profiles", "cli.runner"},
    "dbos": {"durable"},
    "sqlalchemy": {"durable"},
    "obstore": {"durable.objects"},
    "opentelemetry": {"otel"},
}
# The constructor's variables; the way there: proxies, certificates.
READS_ENVIRONMENT = ("client.settings", "exchange.proxies", "exchange.trust")
# A private name that several functions have -> why. Elsewhere, one name has one meaning.
SHARED_NAMES = {
    "_common_fields": "a class and its base",
    "_instrument": "what `otel.instrument` calls, of whatever it is given",
    "_reason": "what to tell of an error: asyncio's, and anyio's, which keeps the system's words in its cause",
}
# I/O, waiting, clocks, chance, the environment: none of it in protocol/.
IMPURE = {
    "anyio", "asyncio", "trio", "io", "logging", "os", "pathlib", "random", "secrets", "select", "shutil", "socket",
    "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "warnings",
}  # fmt: skip
# QrCode.save(path) is the contract's; it writes where its caller says.
PURE_ENOUGH = {("protocol.models", "os"), ("protocol.models", "pathlib")}


def name_of(path: Path) -> str:
    """``protocol.codec`` for ``…/gatepay_async/protocol/codec.py``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room_of(module: str) -> str:
    return module.partition(".")[0]


@frozen
class Written:
    """What a file says, read once: a tree of half a million nodes would slow down all that comes after it."""

    imports: list[str]  # what only a type checker reads is left out
    attributes: list[str]  # `os.environ`, `self._credentials.appsecret` and so on: every attribute that it reads
    names: set[str]
    private_definitions: list[str]  # functions, methods and classes
    is_async: bool


@cache
def written(path: Path) -> Written:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    only_types = {
        inner
        for node in nodes
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    return Written(
        imports=[name for node in nodes if node not in only_types for name in imported_by(node)],
        attributes=[dotted(node) for node in nodes if isinstance(node, ast.Attribute)],
        names={node.id for node in nodes if isinstance(node, ast.Name)},
        private_definitions=[
            node.name
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node.name.startswith("_")
            and not node.name.startswith("__")
        ],
        is_async=any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in nodes),
    )


def dotted(node: ast.expr) -> str:
    """An attribute as it is written; what it is one of, where that is no name, is left out: ``.appsecret``."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def imported_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide which room is meant"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def test_public_names() -> None:
    """The public names are the contract's and those that we added; sorted, and all of them there."""
    assert sorted(CONTRACT + ADDED, key=sort_key) == gatepay_async.__all__
    assert all(hasattr(gatepay_async, name) for name in gatepay_async.__all__)


def sort_key(name: str) -> tuple[str, ...]:
    """As ruff sorts a list of names: classes before functions, each as a machine does."""
    return ("0" if name[0].isupper() else "1", name)


def test_public_names_of_callbacks() -> None:
    """So are those of callbacks/; RedisStore is there for whoever asks for it by name."""
    names = ["CallbackApp", "CallbackEvent", "CallbackReply", "Claim", "EventKind", "MemoryStore", "SQLiteStore"]
    names += ["Standing", "Store"]
    assert sorted(callbacks.__all__, key=sort_key) == callbacks.__all__ == names
    assert all(hasattr(callbacks, name) for name in [*names, "RedisStore"])


def test_no_logic_in_init() -> None:
    """The package's own file holds imports, the list of names, and where each is found when it is first asked for."""
    body = ast.parse((PACKAGE / "__init__.py").read_text("utf-8")).body
    assert {type(node) for node in body} == {ast.Expr, ast.ImportFrom, ast.Assign, ast.If}
    imports, lazily = (node for node in body if isinstance(node, ast.If))
    assert {type(node) for node in imports.body} == {ast.ImportFrom}
    assert [node.name for node in lazily.body if isinstance(node, ast.FunctionDef)] == ["__getattr__", "__dir__"]


def test_names_are_imported_when_they_are_asked_for() -> None:
    """Importing the package imports none of it; a name brings what it needs, and one that isn't there is an error."""
    program = (
        "import sys, gatepay_async; before = set(sys.modules); from gatepay_async import parse_callback;"
        "print('httpx' in before, 'gatepay_async.protocol' in before, 'httpx' in sys.modules);"
        "print(set(gatepay_async.__all__) == set(dir(gatepay_async)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["False", "False", "False", "True"]
    assert set(dir(gatepay_async)) == set(gatepay_async.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gatepay_async.nothing  # type: ignore[attr-defined]  # what is tested


@rows("path", MODULES)
def test_layers(path: Path) -> None:
    """Imports point one way, and a foreign package is imported in its own room only."""
    module = name_of(path)
    for imported in written(path).imports:
        ours = imported.removeprefix("gatepay_async.")
        if ours != imported:
            allowed = MAY_IMPORT[room_of(module)]
            assert room_of(ours) in allowed or any(f"{ours}.".startswith(f"{one}.") for one in allowed), (
                f"{module} must not import {imported}"
            )
            within, _, theirs = ours.partition(".")
            if room_of(module) == within == "durable":
                mine = room_of(module.removeprefix("durable."))
                assert room_of(theirs) in WITHIN_DURABLE.get(mine, {room_of(theirs)}), (
                    f"{module} must not import {imported}"
                )
        places = ONLY_IN.get(room_of(imported))
        assert places is None or module in places or room_of(module) in places, f"{imported} in {module}"


@rows("path", [path for path in MODULES if "protocol" in path.parts])
def test_protocol_is_pure(path: Path) -> None:
    """The protocol neither waits nor reaches out."""
    module = name_of(path)
    for imported in written(path).imports:
        for impure in IMPURE:
            if f"{imported}.".startswith(f"{impure}."):
                assert (module, impure) in PURE_ENOUGH, f"{module} imports {imported}"
    assert not written(path).is_async
    assert not {"open", "print", "input"} & written(path).names
    assert not [read for read in written(path).attributes if read.endswith((".now", ".today", ".utcnow"))]


@rows("path", MODULES)
def test_nevers(path: Path) -> None:
    """No print; the command alone exits; it and the client read the environment, the signature the appsecret."""
    module = name_of(path)
    assert "print" not in written(path).names
    for read in written(path).attributes:
        assert read not in ("time.sleep", "os.getenv")
        assert read != "sys.exit" or module in ("cli.app", "cli.entry")
        assert read != "os.environ" or module in READS_ENVIRONMENT or room_of(module) == "cli"
        # The sandbox is the other end: it has secrets of its own.
        assert not read.endswith(".appsecret") or module == "protocol.signing" or room_of(module) == "sandbox"


def test_private_names_have_one_meaning() -> None:
    """No two functions, methods or classes share a private name, unless they do the same."""
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for name in written(path).private_definitions:
            places.setdefault(name, []).append(name_of(path))
    shared = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in shared.items() if name not in SHARED_NAMES} == {}
    assert shared.keys() == SHARED_NAMES.keys()


@rows("path", WRITTEN)
def test_exceptions_have_reasons(path: Path) -> None:
    """Every exception to a rule carries its reason."""
    for line in path.read_text("utf-8").splitlines():
        for found in re.finditer(r"# (noqa|type: ignore|pyright: ignore|pragma: no)\b", line):
            if path.name != Path(__file__).name:
                rest = line[found.start() :]
                assert re.match(r"# (noqa: [A-Z0-9, ]+ -- \w|type: ignore\[[\w, -]+\]  # \w)", rest) or re.match(
                    r"# pyright: ignore\[\w+\] -- \w", rest
                ), line


@rows("path", sorted((ROOT / "tests").rglob("test_*.py")))
def test_no_skipped_tests(path: Path) -> None:
    """No test is skipped or expected to fail without a reason."""
    marks = [line for line in path.read_text("utf-8").splitlines() if line.lstrip().startswith("@pytest.mark.")]
    assert not [line for line in marks if re.match(r"\s*@pytest\.mark\.(skip|xfail)", line) and "reason=" not in line]


def test_lines_to_copy_log_no_signature() -> None:
    """Wherever a reader is told to start uvicorn for callbacks, it is without its access log."""
    texts = [
        path.read_text("utf-8") for name in ("docs", "examples") for path in (ROOT / name).rglob("*.*")
        if path.suffix in (".md", ".py")
    ]  # fmt: skip
    lines = [line for text in texts for line in text.splitlines() if re.search(r"\buvicorn \w+:app\b", line)]
    assert lines
    assert [line for line in lines if "--no-access-log" not in line] == []


def test_change_log_names_the_version() -> None:
    """The newest section is this version's, and each fragment for the next one has a name that towncrier reads."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "keepachangelog.com" in text
    assert re.findall(r"<!-- the next release -->\n\n## \[(.+?)\] - \d{4}-\d\d-\d\d\n", text) == [
        gatepay_async.__version__
    ]
    kinds = "added|changed|deprecated|removed|fixed|security"
    names = {path.name for path in (ROOT / "changelog.d").iterdir()} - {"README.md", "template.md.jinja"}
    assert [name for name in names if not re.fullmatch(rf"[\w+-]+\.({kinds})\.md", name)] == []
