"""
What is checked, and how; `nox -l` lists the sessions.

The tests come in three lanes (see CONTRIBUTING.md): `fast`, `sockets` and `slow`. Sessions install the built wheel,
never the folder, and the versions that requirements/ locks.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox
from packaging.requirements import Requirement

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")
LOCKED = ("-c", str(ROOT / "requirements" / "locked.txt"))
LOWEST = ("-c", str(ROOT / "requirements" / "lowest.txt"))
TESTED_EXTRAS = "sandbox,cli,durable,s3,redis,otel"
# The fast lane waits for nothing, and tries few random examples: `tests` tries more.
QUICKLY = ("-n", str(os.cpu_count() or 2), "--dist", "worksteal", "--hypothesis-profile=few")
# Some tests wait for something: two cores are busy with three workers, and a fourth would import everything once more.
IN_PARALLEL = ("-n", str(min(3 * (os.cpu_count() or 2) // 2, 16)), "--dist", "worksteal")


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def runs(python: str | None) -> bool:
    """Whether *python* starts; a shim of pyenv may exist without the Python that it stands for."""
    return bool(python) and subprocess.run([str(python), "-c", ""], capture_output=True, check=False).returncode == 0


def pythons() -> list[str]:
    """The supported Pythons on this machine. Those of pyenv are put on the PATH, where nox looks."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in SUPPORTED:
        for place in sorted(root.glob(f"versions/{version}.*/bin")):
            if not runs(shutil.which(f"python{version}")):
                os.environ["PATH"] = f"{place}{os.pathsep}{os.environ['PATH']}"
    return [version for version in SUPPORTED if runs(shutil.which(f"python{version}"))]


# What a user's first test may look like: the fixtures are there, as the package is installed.
PLUGIN_IS_FOUND = """
import pytest

@pytest.mark.anyio
async def test_gatepay(gatepay, gatepay_sandbox):
    assert len((await gatepay.list_products()).products) == 3
"""
# What is most likely to differ between two Pythons: sockets, TLS, threads, SQLite, tracebacks.
NEAR_PYTHON = [
    f"tests/{name}.py"
    for name in (
        "cli/test_cli_keys",
        "durable/test_durable_uploads",
        "sandbox/test_sandbox_server",
        "test_client",
        "test_dedup",
        "test_frames",
        "test_pool_desync",
        "test_pool_stream",
        "test_sqlite_files",
    )
]
# An extra whose room lies in that of another: that one is missed first.
BUILT_ON = {"s3": "durable"}
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = pythons() or [RUNNING]
OLDEST, NEWEST = PYTHONS[0], PYTHONS[-1]
EXTRAS = list(PROJECT["project"]["optional-dependencies"])
ALONE = [each for each in EXTRAS if each != "all"]

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# What many workers import at once is compiled before, once. Elsewhere that would take longer than it saves.
COMPILED = {"UV_COMPILE_BYTECODE": "1"}

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
# Everything that must pass: both quick lanes on the Python that runs nox, all lanes, counted, on the newest, and a part
# on those between them. The workflow of the forge, which has more machines, runs both quick lanes on each.
nox.options.sessions = [
    "lint",
    "workflows",
    "typing",
    "tests",
    *(f"between-{python}" for python in PYTHONS if python not in {RUNNING, NEWEST}),
    "coverage",
    "httpx2",
    "browser",
    "bare",
    "extras",
    "lowest",
    "docs",
    "build",
]


@nox.session
def tests(session: nox.Session) -> None:
    """The fast and the sockets lane, on the Python that runs nox."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILED)
    session.run("pytest", "--lane", "fast", "--lane", "sockets", *IN_PARALLEL, *session.posargs)
    session.log(
        "The slow lane is left out: killed processes, PostgreSQL, Redis, commands in a terminal. "
        "`nox -s slow` runs it, `nox -s browser` tries the sandbox's pages in Chromium, and `nox` runs everything."
    )


@nox.session(python=PYTHONS, reuse_venv=True)
def fast(session: nox.Session) -> None:
    """The fast lane on every Python: no sockets, no processes. Run it after each change."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("pytest", "--lane", "fast", *QUICKLY, *session.posargs)


@nox.session(python=PYTHONS)
def supported(session: nox.Session) -> None:
    """The fast and the sockets lane, on every supported Python that is here."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILED)
    session.run("pytest", "--lane", "fast", "--lane", "sockets", *IN_PARALLEL, *session.posargs)


@nox.session(python=PYTHONS)
def between(session: nox.Session) -> None:
    """The fast lane, and of the sockets lane what depends most on the Python."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    near = [f"--and-module={path}" for path in NEAR_PYTHON]
    session.run("pytest", "--lane", "fast", *near, "--hypothesis-profile=few", *IN_PARALLEL, *session.posargs)


@nox.session(python=NEWEST)
def slow(session: nox.Session) -> None:
    """The slow lane: real kills, PostgreSQL, Redis, terminals, many processes."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILED)
    session.run("pytest", "--lane", "slow", *IN_PARALLEL, *session.posargs)


@nox.session(python=NEWEST)
def anywhere(session: nox.Session) -> None:
    """The fast lane and a slice of the others, started in many ways. Not part of `nox`."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("python", "tests/anywhere.py", *session.posargs)


@nox.session(python=NEWEST)
def coverage(session: nox.Session) -> None:
    """All lanes on the newest Python; every line and branch must be covered."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILED)
    session.run("coverage", "erase")
    # Counting starts with the interpreter: pytest-cov would start it after our own plugin of pytest is imported.
    counting = {"COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"), "COVERAGE_FILE": str(ROOT / ".coverage")}
    # Counting doubles what a test costs: the other sessions try more random examples, and fewer workers fill the cores.
    session.run("pytest", "--hypothesis-profile=few", *IN_PARALLEL, *session.posargs, env=counting)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python=NEWEST)
def httpx2(session: nox.Session) -> None:
    """What a user's own client or transport may come from, over httpx2's instead of httpx's."""
    session.install(*LOCKED, ".[sandbox]", *group("tests"))
    over = {"GATEPAY_TEST_HTTPX": "httpx2"}
    modules = ["tests/exchange", *(f"tests/test_{name}.py" for name in ("client", "secrets", "send_raw"))]
    session.run("pytest", *IN_PARALLEL, *session.posargs, *modules, env=over)


@nox.session(python=NEWEST)
def changelog(session: nox.Session) -> None:
    """Show the next release's section of CHANGELOG.md; `-- --write` makes it of the fragments in changelog.d/."""
    session.install(*LOCKED, *group("changelog"))
    version = (ROOT / "src/gatepay_async/version.py").read_text("utf-8").split('"')[-2]
    session.run("towncrier", "build", f"--version={version}", "--yes" if "--write" in session.posargs else "--draft")


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """The rules, and the form."""
    session.install(*LOCKED, *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session(python=OLDEST)
def workflows(session: nox.Session) -> None:
    """The rules for .github/."""
    session.install(*LOCKED, *group("workflows"))
    session.run("zizmor", "--offline", "--persona=pedantic", ".github")


@nox.session(python=OLDEST)
def typing(session: nox.Session) -> None:
    """Both type checkers; tests/typing_api.py says what a user's checker must see."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("typing"))
    session.run("mypy", "--num-workers", "auto")
    session.run("pyright")


@nox.session(python=NEWEST)
def browser(session: nox.Session) -> None:
    """The sandbox's pages in a real browser: the Chromium on the PATH, or where CHROMIUM says."""
    session.install(*LOCKED, ".[sandbox]", *group("browser"))
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs, "tests/browser")


@nox.session(python=NEWEST)
def pictures(session: nox.Session) -> None:
    """Take the pictures of docs/images/ anew; `-- FOLDER` takes all that there are, to be looked at."""
    session.install(*LOCKED, ".[sandbox]", *group("browser"))
    session.run("python", "tests/browser/pictures.py", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=NEWEST)
def commands(session: nox.Session) -> None:
    """Every command under every condition: narrow, piped, in Chinese, on a full disk; a table. Not part of `nox`."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    authority = ROOT / "tests" / "authority.pem"
    session.run("python", "tests/every_command.py", *session.posargs, env={"SSL_CERT_FILE": str(authority)})


@nox.session(python=NEWEST)
@nox.parametrize("extra", EXTRAS)
def extras(session: nox.Session, extra: str) -> None:
    """With one extra alone: what it promises works, far from the sources."""
    session.install(*LOCKED, f".[{extra}]")
    session.chdir(session.create_tmp())
    for program in programs(ALONE if extra == "all" else [extra]):
        session.run("python", "-I", str(program))


def programs(names: list[str]) -> list[Path]:
    """The programs of tests/extras/ that show what each of these extras is good for."""
    return [ROOT / "tests" / "extras" / f"{name}.py" for name in names]


@nox.session(python=NEWEST)
def bare(session: nox.Session) -> None:
    """Without any extra: it imports, works, brings little, and says which extra is missing."""
    session.install(*LOCKED, ".")
    session.run("python", "-I", "tests/bare.py")
    for program in programs(ALONE):
        printed = session.run("python", "-I", str(program), success_codes=[1, 2], silent=True)
        extra = BUILT_ON.get(program.stem, program.stem)
        if f"pip install 'gatepay-async[{extra}]'" not in str(printed):
            session.error(f"nothing says that the extra {extra} is missing: {printed}")
    session.install(*LOCKED, "pytest", f"gatepay-async[sandbox] @ {ROOT.as_uri()}")
    # Far from the sources: what pytest finds is the wheel's entry point.
    session.chdir(session.create_tmp())
    Path("pytest.ini").write_text("[pytest]\n")
    Path("test_plugin.py").write_text(PLUGIN_IS_FOUND)
    session.run("pytest", "-W", "error", "test_plugin.py")


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """The fast lane and a program for each extra, on the oldest dependencies that pyproject.toml allows."""
    session.install(*LOWEST, f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("pytest", "--lane", "fast", *QUICKLY, *session.posargs)
    for program in programs(ALONE):
        session.run("python", "-I", str(program))


@nox.session(python=NEWEST)
def newest(session: nox.Session) -> None:
    """The quick lanes and a program for each extra, on whatever the package index has today. Not part of `nox`."""
    session.install("--upgrade", f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("pytest", "--lane", "fast", "--lane", "sockets", *IN_PARALLEL, *session.posargs)
    for program in programs(ALONE):
        session.run("python", "-I", str(program))


@nox.session(python=NEWEST)
def thorough(session: nox.Session) -> None:
    """All lanes, with a thousand random examples where the others try 25. Not part of `nox`."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILED)
    options = ["--hypothesis-profile=thorough", "--hang-limit=3000"]
    session.run("pytest", *options, *IN_PARALLEL, *session.posargs)


@nox.session(python=OLDEST)
def lock(session: nox.Session) -> None:
    """Write requirements/ anew: the versions that all other sessions and the README's commands install."""
    session.install("uv")
    groups = [f"--group={name}" for name in PROJECT["dependency-groups"]]
    common = ["uv", "pip", "compile", "pyproject.toml", "--all-extras", "--no-header", "--no-annotate", "--quiet"]
    common += ["--no-emit-package=gatepay-async", "--universal", f"--python-version={OLDEST}", *session.posargs]
    session.run(*common, *groups, "-o", LOCKED[1])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as oldest:
        oldest.write("\n".join(oldest_direct()))
        oldest.flush()
        session.run(*common, "--group=tests", "-c", oldest.name, "-o", LOWEST[1])


def oldest_direct() -> list[str]:
    """`httpx==0.28` for `httpx>=0.28,<1`, for each direct dependency of the package and of its extras."""
    project = PROJECT["project"]
    required = [*project["dependencies"], *(each for one in project["optional-dependencies"].values() for each in one)]
    allowed = [Requirement(each) for each in required if not each.startswith(project["name"])]
    bounds = {each.name: next(one.version for one in each.specifier if one.operator == ">=") for each in allowed}
    return [f"{name}=={version}" for name, version in bounds.items()]


@nox.session(python=OLDEST)
def bench(session: nox.Session) -> None:
    """The figures of benchmarks/, beside what a user would write instead; `-- --quick` for a look."""
    session.install(*LOCKED, ".[sandbox,cli,redis,otel]", *group("bench"), *group("peers"))
    session.run("python", "-m", "benchmarks.run", *session.posargs)


@nox.session(python=OLDEST)
def durable(session: nox.Session) -> None:
    """The figures of durable uploads: real processes, real kills, both databases; `-- kill --kills 5` for a look."""
    session.install(*LOCKED, ".[durable,sandbox]", *group("tests"), *group("bench"))
    session.run("python", "-m", "benchmarks.durable", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=OLDEST)
def soak(session: nox.Session) -> None:
    """A minute of everything at once on each event loop: nothing lost, nothing that grows."""
    session.install(*LOCKED, ".[sandbox]", *group("bench"))
    for loop in ("asyncio", "trio"):
        session.run("python", "-m", "benchmarks.soak", "--loop", loop, *session.posargs)


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """The documentation in both languages, with its links checked; without the network. It comes to build/docs."""
    session.install(*LOCKED, ".[all]", *group("tests"), *group("docs"))
    out = ROOT / "build" / "docs"
    shutil.rmtree(out, ignore_errors=True)
    for language in ("en", "zh"):
        options = ["-q", "-W", "--keep-going", "-j", "auto", "-t", language, "-c", "docs"]
        trees = f"{out}/.doctrees/{language}"
        session.run("sphinx-build", *options, "-d", trees, f"docs/{language}", f"{out}/{language}")
    for name in ("index.html", "llms.txt"):  # they lead to both languages
        shutil.copy(ROOT / "docs" / name, out)
    session.run("pytest", "tests/docs/test_docs_built.py", *session.posargs, env={"GATEPAY_TEST_DOCS": str(out)})
    session.log(f"open {out / 'index.html'}")


@nox.session(python=NEWEST)
def build(session: nox.Session) -> None:
    """The wheel and the sdist in dist/, and what is in them."""
    session.install(*LOCKED, *group("build"))
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("python", "tests/packaged.py", str(dist))


@nox.session(python=NEWEST)
def sbom(session: nox.Session) -> None:
    """What an installation with all extras consists of, as CycloneDX, in build/sbom.cdx.json. Not part of `nox`."""
    session.install(*LOCKED, ".[all]")
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    (ROOT / "build").mkdir(exist_ok=True)
    session.install(*LOCKED, *group("sbom"))
    session.run("cyclonedx-py", "environment", "--output-file", "build/sbom.cdx.json", str(python).strip())
