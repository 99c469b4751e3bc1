"""
What is checked, and how; `nox -l` lists the sessions.

The built wheel is what is installed and tested, never the folder.
"""

import os
import shutil
import subprocess
from pathlib import Path

import nox
from packaging.requirements import Requirement

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
SUPPORTED = ("3.11", "3.12", "3.13", "3.14")


def group(name: str) -> list[str]:
    """The requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def runs(python: str | None) -> bool:
    """Whether *python* is there; a shim of pyenv may be, without the Python that it stands for."""
    return bool(python) and subprocess.run([str(python), "-c", ""], capture_output=True, check=False).returncode == 0


def pythons() -> list[str]:
    """The supported Pythons that are here. Those of pyenv are put on the PATH, where nox looks."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in SUPPORTED:
        for place in sorted(root.glob(f"versions/{version}.*/bin")):
            if not runs(shutil.which(f"python{version}")):
                os.environ["PATH"] = f"{place}{os.pathsep}{os.environ['PATH']}"
    return [version for version in SUPPORTED if runs(shutil.which(f"python{version}"))]


# The tests that open a client of their own or the fixture's, and so talk over its transport.
OVER_SOCKETS = [
    f"tests/test_{name}.py"
    for name in ("blocking", "client", "examples", "pager", "readme", "secrets", "upload", "upload_sources")
]
# What a user's first test may look like: the fixtures are there, as the package is installed.
PLUGIN_IS_FOUND = """
import pytest

@pytest.mark.anyio
async def test_gatepay(gatepay, gatepay_sandbox):
    assert len((await gatepay.list_products()).products) == 3
"""
# An extra whose room lies in that of another: that one is missed first.
BUILT_ON = {"s3": "durable"}
PYTHONS = pythons()
OLDEST, NEWEST = PYTHONS[0], PYTHONS[-1]
EXTRAS = list(PROJECT["project"]["optional-dependencies"])

nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = [
    "lint",
    "typing",
    "tests",
    "coverage",
    "aiohttp",
    "browser",
    "bare",
    "extras",
    "lowest",
    "docs",
    "build",
]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite, on every Python that is here."""
    session.install(".[sandbox,aiohttp,cli,durable,s3,redis]", *group("tests"))
    # No line is for one Python only, so one of them is enough to count lines; it takes half as long again.
    counting = ["coverage", "run", "-m"] if session.python == OLDEST else ["python", "-m"]
    session.run(*counting, "pytest", *session.posargs)


@nox.session(python=NEWEST)
def aiohttp(session: nox.Session) -> None:
    """What talks to servers, over aiohttp instead of the pool."""
    session.install(".[sandbox,aiohttp]", *group("tests"))
    over = {"GATEPAY_TEST_TRANSPORT": "aiohttp"}
    session.run("pytest", "-m", "not own_pool", *session.posargs, *OVER_SOCKETS, env=over)


@nox.session(python=OLDEST)
def coverage(session: nox.Session) -> None:
    """Every line and branch, over all that `tests` has run."""
    session.install(*(each for each in group("tests") if each.startswith("coverage")))
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """The rules, and the form."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session(python=OLDEST)
def typing(session: nox.Session) -> None:
    """Both type checkers; tests/typing_api.py says what a user's checker must see."""
    session.install(".[sandbox,aiohttp,cli,durable,s3,redis]", *group("typing"))
    session.run("mypy")
    session.run("pyright")


@nox.session(python=NEWEST)
def browser(session: nox.Session) -> None:
    """The sandbox's pages in a real browser: the Chromium on the PATH, or where CHROMIUM says."""
    session.install(".[sandbox]", *group("browser"))
    session.run("pytest", "tests/browser", *session.posargs)


@nox.session(python=NEWEST)
def pictures(session: nox.Session) -> None:
    """Take the pictures of docs/images/ anew; `-- FOLDER` takes all that there are, to be looked at."""
    session.install(".[sandbox]", *group("browser"))
    session.run("python", "tests/browser/pictures.py", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=NEWEST)
@nox.parametrize("extra", EXTRAS)
def extras(session: nox.Session, extra: str) -> None:
    """With one extra alone: what it promises works, far from the sources."""
    session.install(f".[{extra}]")
    session.chdir(session.create_tmp())
    for program in programs(extra):
        session.run("python", "-I", str(program))


def programs(extra: str) -> list[Path]:
    """The programs of tests/extras/ that show what *extra* is good for: its own; of `all`, all."""
    names = [each for each in EXTRAS if each != "all"] if extra == "all" else [extra]
    return [ROOT / "tests" / "extras" / f"{name}.py" for name in names]


@nox.session(python=NEWEST)
def bare(session: nox.Session) -> None:
    """Without any extra: it imports, works, brings little, and says which extra is missing."""
    session.install(".")
    session.run("python", "-I", "tests/bare.py")
    for program in programs("all"):
        told = session.run("python", "-I", str(program), success_codes=[1, 2], silent=True)
        extra = BUILT_ON.get(program.stem, program.stem)
        if f"pip install 'gatepay-async[{extra}]'" not in str(told):
            session.error(f"nobody says that the extra {extra} is missing: {told}")
    session.install("pytest", f"gatepay-async[sandbox] @ {ROOT.as_uri()}")
    # Far from the sources: what pytest finds is the wheel's entry point.
    session.chdir(session.create_tmp())
    Path("pytest.ini").write_text("[pytest]\n")
    Path("test_plugin.py").write_text(PLUGIN_IS_FOUND)
    session.run("pytest", "-W", "error", "test_plugin.py")


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """The suite, on the oldest dependencies that pyproject.toml allows."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    tested = ("sandbox", "aiohttp", "cli", "durable", "s3", "redis")
    required = [*project["dependencies"], *(each for extra in tested for each in extras[extra])]
    allowed = [each for each in required if not each.startswith(project["name"])]  # an extra may bring another
    session.install(f".[{','.join(tested)}]", *group("tests"), *map(oldest, allowed))
    # What the pages show is what today's Typer and Rich draw.
    today = ("test_docs_snippets.py::test_console", "test_docs_pictures.py")
    session.run("pytest", *(f"--deselect=tests/docs/{each}" for each in today), *session.posargs)


def oldest(requirement: str) -> str:
    """`httpx==0.28` for `httpx>=0.28,<1`."""
    parsed = Requirement(requirement)
    bound = next(each.version for each in parsed.specifier if each.operator == ">=")
    return f"{parsed.name}=={bound}"


@nox.session(python=OLDEST)
def bench(session: nox.Session) -> None:
    """The figures of benchmarks/, beside what a user would write instead; `-- --quick` for a look."""
    session.install(".[sandbox,aiohttp,cli,redis]", *group("bench"))
    session.run("python", "-m", "benchmarks.run", *session.posargs)


@nox.session(python=OLDEST)
def durable(session: nox.Session) -> None:
    """The figures of durable uploads: real processes, real kills, both databases; `-- kill --kills 5` for a look."""
    session.install(".[durable,sandbox]", *group("tests"), *group("bench"))
    session.run("python", "-m", "benchmarks.durable", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=OLDEST)
def soak(session: nox.Session) -> None:
    """A minute of everything at once on each event loop: nothing lost, nothing that grows."""
    session.install(".[sandbox]", *group("bench"))
    for loop in ("asyncio", "trio"):
        session.run("python", "-m", "benchmarks.soak", "--loop", loop, *session.posargs)


@nox.session(python=OLDEST)
def docs(session: nox.Session) -> None:
    """The documentation, in both languages, and all that it shows run; without the network. It comes to build/docs."""
    session.install(".[all]", *group("tests"), *group("docs"))
    out = ROOT / "build" / "docs"
    for language in ("en", "zh"):
        options = ["-q", "-W", "--keep-going", "-t", language, "-c", "docs", "-d", f"{out}/.doctrees/{language}"]
        session.run("sphinx-build", *options, f"docs/{language}", f"{out}/{language}")
    shutil.copy(ROOT / "docs" / "index.html", out)
    about = ("tests/docs", "tests/test_readme.py", "tests/test_public_api.py", "tests/test_licences.py")
    session.run("pytest", *about, *session.posargs, env={"GATEPAY_DOCS": str(out)})
    session.log(f"open {out / 'index.html'}")


@nox.session(python=NEWEST)
def build(session: nox.Session) -> None:
    """The wheel and the sdist, and what is in them."""
    session.install("build", "twine")
    dist = Path(session.create_tmp()) / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("python", "tests/packaged.py", str(dist))
