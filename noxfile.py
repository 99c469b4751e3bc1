"""
The nox sessions: tests, linters, documentation and builds. `nox -l` lists them.

The tests are in three lanes (see CONTRIBUTING.md): `fast`, `sockets` and `slow`. Sessions install the built wheel, not
an editable install, with the versions that requirements/ locks.
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
# Options of pip that pin the versions of dependencies.
LOCKED = ("-c", str(ROOT / "requirements" / "locked.txt"))
LOWEST = ("-c", str(ROOT / "requirements" / "lowest.txt"))
TESTED_EXTRAS = "sandbox,cli,durable,s3,redis,otel"
# For the fast lane, whose tests don't wait. Fewer random examples than in the session `tests`.
FAST_OPTIONS = ("-n", str(os.cpu_count() or 2), "--dist", "worksteal", "--hypothesis-profile=few")
# For tests that wait: three workers keep two cores busy. More workers would spend more time on imports than they save.
PARALLEL_OPTIONS = ("-n", str(min(3 * (os.cpu_count() or 2) // 2, 16)), "--dist", "worksteal")


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def is_runnable(python: str | None) -> bool:
    """Whether *python* starts. pyenv may have a shim for a Python that isn't installed."""
    return bool(python) and subprocess.run([str(python), "-c", ""], capture_output=True, check=False).returncode == 0


def pythons() -> list[str]:
    """Return the supported Pythons on this machine. Adds those of pyenv to PATH, so that nox finds them."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in SUPPORTED:
        for folder in sorted(root.glob(f"versions/{version}.*/bin")):
            if not is_runnable(shutil.which(f"python{version}")):
                os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return [version for version in SUPPORTED if is_runnable(shutil.which(f"python{version}"))]


# A user's first test. It uses the fixtures of the pytest plugin, which the installed package provides.
PLUGIN_TEST = """
import pytest

@pytest.mark.anyio
async def test_gatepay(gatepay, gatepay_sandbox):
    assert len((await gatepay.list_products()).products) == 3
"""
# Tests of what is most likely to differ between Python versions: sockets, TLS, threads, SQLite, tracebacks.
VERSION_DEPENDENT_TESTS = [
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
# Extras that need another extra: without both, the error names the extra on the right.
BUILT_ON_EXTRA = {"s3": "durable"}
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = pythons() or [CURRENT]
OLDEST, NEWEST = PYTHONS[0], PYTHONS[-1]
EXTRAS = list(PROJECT["project"]["optional-dependencies"])
SINGLE_EXTRAS = [extra for extra in EXTRAS if extra != "all"]

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Compile all modules once, at installation, for sessions in which many workers import them. In other sessions, this
# would take longer than it saves.
COMPILE_BYTECODE = {"UV_COMPILE_BYTECODE": "1"}

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
# The default sessions, all of which must pass. The fast and the sockets lane run on the Python that runs nox, all lanes
# with coverage on the newest Python, and some tests on the Pythons in between. CI on GitHub has more machines and runs
# both lanes on each Python.
nox.options.sessions = [
    "lint",
    "workflows",
    "typing",
    "tests",
    *(f"between-{python}" for python in PYTHONS if python not in {CURRENT, NEWEST}),
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
    """Run the fast and the sockets lane, on the Python that runs nox."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILE_BYTECODE)
    session.run("pytest", "--lane", "fast", "--lane", "sockets", *PARALLEL_OPTIONS, *session.posargs)
    session.log(
        "The slow lane did not run: killed processes, PostgreSQL, Redis, commands in a terminal. "
        "`nox -s slow` runs it, `nox -s browser` tests the sandbox's pages in Chromium, and `nox` runs everything."
    )


@nox.session(python=PYTHONS, reuse_venv=True)
def fast(session: nox.Session) -> None:
    """Run the fast lane on every Python: no sockets, no processes. Run it after each change."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("pytest", "--lane", "fast", *FAST_OPTIONS, *session.posargs)


@nox.session(python=PYTHONS)
def supported(session: nox.Session) -> None:
    """Run the fast and the sockets lane on every supported Python that is installed."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILE_BYTECODE)
    session.run("pytest", "--lane", "fast", "--lane", "sockets", *PARALLEL_OPTIONS, *session.posargs)


@nox.session(python=PYTHONS)
def between(session: nox.Session) -> None:
    """Run the fast lane, and the tests of the sockets lane that depend most on the Python version."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    modules = [f"--and-module={path}" for path in VERSION_DEPENDENT_TESTS]
    session.run("pytest", "--lane", "fast", *modules, "--hypothesis-profile=few", *PARALLEL_OPTIONS, *session.posargs)


@nox.session(python=NEWEST)
def slow(session: nox.Session) -> None:
    """Run the slow lane: killed processes, PostgreSQL, Redis, terminals, many processes."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILE_BYTECODE)
    session.run("pytest", "--lane", "slow", *PARALLEL_OPTIONS, *session.posargs)


@nox.session(python=NEWEST)
def anywhere(session: nox.Session) -> None:
    """Run the fast lane and some other tests in unusual environments. Not part of `nox`."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("python", "tests/anywhere.py", *session.posargs)


@nox.session(python=NEWEST)
def coverage(session: nox.Session) -> None:
    """Run all lanes on the newest Python; every line and branch must be covered."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILE_BYTECODE)
    session.run("coverage", "erase")
    # Measuring starts with the interpreter: pytest-cov would start it after pytest has imported our own plugin.
    measuring = {"COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"), "COVERAGE_FILE": str(ROOT / ".coverage")}
    # Measuring doubles the time of a test, so this session tries fewer random examples.
    session.run("pytest", "--hypothesis-profile=few", *PARALLEL_OPTIONS, *session.posargs, env=measuring)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")
    session.run("python", "tests/paths.py")  # prints how many functions a call runs through


@nox.session(python=NEWEST)
def httpx2(session: nox.Session) -> None:
    """Run the tests of user-supplied clients and transports with httpx2 instead of httpx."""
    session.install(*LOCKED, ".[sandbox]", *group("tests"))
    use_httpx2 = {"GATEPAY_TEST_HTTPX": "httpx2"}
    modules = ["tests/exchange", *(f"tests/test_{name}.py" for name in ("client", "secrets", "send_raw"))]
    session.run("pytest", *PARALLEL_OPTIONS, *session.posargs, *modules, env=use_httpx2)


@nox.session(python=NEWEST)
def changelog(session: nox.Session) -> None:
    """Show the next release's section of CHANGELOG.md; `-- --write` moves the fragments of changelog.d/ into it."""
    session.install(*LOCKED, *group("changelog"))
    version = (ROOT / "src/gatepay_async/version.py").read_text("utf-8").split('"')[-2]
    session.run("towncrier", "build", f"--version={version}", "--yes" if "--write" in session.posargs else "--draft")


@nox.session(python=OLDEST)
def lint(session: nox.Session) -> None:
    """Check code rules, formatting and spelling."""
    session.install(*LOCKED, *group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("codespell")


@nox.session(python=OLDEST)
def workflows(session: nox.Session) -> None:
    """Check the workflows in .github/ for security problems."""
    session.install(*LOCKED, *group("workflows"))
    session.run("zizmor", "--offline", "--persona=pedantic", ".github")


@nox.session(python=OLDEST)
def typing(session: nox.Session) -> None:
    """Run both type checkers; tests/typing_api.py has the types that users' checkers must infer."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("typing"))
    session.run("mypy")  # not with --num-workers: on a busy machine, its workers may fail to start
    session.run("pyright")


@nox.session(python=NEWEST)
def browser(session: nox.Session) -> None:
    """Test the sandbox's pages in a browser: the Chromium on PATH, or the one that the variable CHROMIUM names."""
    session.install(*LOCKED, ".[sandbox]", *group("browser"))
    session.run("pytest", "-n", "2", "--dist", "worksteal", *session.posargs, "tests/browser")


@nox.session(python=NEWEST)
def pictures(session: nox.Session) -> None:
    """Take the screenshots in docs/images/ again; `-- FOLDER` saves screenshots of all pages there, for review."""
    session.install(*LOCKED, ".[sandbox]", *group("browser"))
    session.run("python", "tests/browser/pictures.py", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=NEWEST)
def commands(session: nox.Session) -> None:
    """Run every command in narrow terminals, pipes, Chinese, on a full disk, …; print a table. Not part of `nox`."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"))
    authority = ROOT / "tests" / "authority.pem"
    session.run("python", "tests/every_command.py", *session.posargs, env={"SSL_CERT_FILE": str(authority)})


@nox.session(python=NEWEST)
@nox.parametrize("extra", EXTRAS)
def extras(session: nox.Session, extra: str) -> None:
    """Install the package with one extra only, and run the program that uses this extra."""
    session.install(*LOCKED, f".[{extra}]")
    session.chdir(session.create_tmp())
    for program in extra_programs(SINGLE_EXTRAS if extra == "all" else [extra]):
        session.run("python", "-I", str(program))


def extra_programs(names: list[str]) -> list[Path]:
    """Return the programs of tests/extras/ that use these extras."""
    return [ROOT / "tests" / "extras" / f"{name}.py" for name in names]


@nox.session(python=NEWEST)
def bare(session: nox.Session) -> None:
    """Install the package without extras: the client works, and errors name the missing extra."""
    session.install(*LOCKED, ".")
    session.run("python", "-I", "tests/bare.py")
    for program in extra_programs(SINGLE_EXTRAS):
        printed = session.run("python", "-I", str(program), success_codes=[1, 2], silent=True)
        extra = BUILT_ON_EXTRA.get(program.stem, program.stem)
        if f"pip install 'gatepay-async[{extra}]'" not in str(printed):
            session.error(f"the output doesn't name the missing extra {extra}: {printed}")
    session.install(*LOCKED, "pytest", f"gatepay-async[sandbox] @ {ROOT.as_uri()}")
    # In a folder outside the repository, so that pytest finds the plugin through the wheel's entry point.
    session.chdir(session.create_tmp())
    Path("pytest.ini").write_text("[pytest]\n")
    Path("test_plugin.py").write_text(PLUGIN_TEST)
    session.run("pytest", "-W", "error", "test_plugin.py")


@nox.session(python=OLDEST)
def lowest(session: nox.Session) -> None:
    """Run the fast lane and the extras' programs with the oldest dependencies that pyproject.toml allows."""
    session.install(*LOWEST, f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("pytest", "--lane", "fast", *FAST_OPTIONS, *session.posargs)
    for program in extra_programs(SINGLE_EXTRAS):
        session.run("python", "-I", str(program))


@nox.session(python=NEWEST)
def newest(session: nox.Session) -> None:
    """Run two lanes and the extras' programs with the newest dependencies, without the lock. Not part of `nox`."""
    session.install("--upgrade", f".[{TESTED_EXTRAS}]", *group("tests"))
    session.run("pytest", "--lane", "fast", "--lane", "sockets", *PARALLEL_OPTIONS, *session.posargs)
    for program in extra_programs(SINGLE_EXTRAS):
        session.run("python", "-I", str(program))


@nox.session(python=NEWEST)
def thorough(session: nox.Session) -> None:
    """Run all lanes with 1,000 random examples per test instead of 25. Not part of `nox`."""
    session.install(*LOCKED, f".[{TESTED_EXTRAS}]", *group("tests"), env=COMPILE_BYTECODE)
    options = ["--hypothesis-profile=thorough", "--hang-limit=3000"]
    session.run("pytest", *options, *PARALLEL_OPTIONS, *session.posargs)


@nox.session(python=OLDEST)
def lock(session: nox.Session) -> None:
    """Update requirements/: the versions that all other sessions and the README's commands install."""
    session.install("uv")
    groups = [f"--group={name}" for name in PROJECT["dependency-groups"]]
    common = ["uv", "pip", "compile", "pyproject.toml", "--all-extras", "--no-header", "--no-annotate", "--quiet"]
    common += ["--no-emit-package=gatepay-async", "--universal", f"--python-version={OLDEST}", *session.posargs]
    session.run(*common, *groups, "-o", LOCKED[1])
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(lowest_direct_versions()))
        constraints.flush()
        session.run(*common, "--group=tests", "-c", constraints.name, "-o", LOWEST[1])


def lowest_direct_versions() -> list[str]:
    """Return the lowest allowed version of each direct dependency: `httpx==0.28` for `httpx>=0.28,<1`."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    required = [Requirement(line) for line in lines if not line.startswith(project["name"])]
    bounds = {
        requirement.name: next(spec.version for spec in requirement.specifier if spec.operator == ">=")
        for requirement in required
    }
    return [f"{name}=={version}" for name, version in bounds.items()]


@nox.session(python=OLDEST)
def bench(session: nox.Session) -> None:
    """Run the benchmarks against what a user would write instead; `-- --quick` runs shorter rounds."""
    session.install(*LOCKED, ".[sandbox,cli,redis,otel]", *group("bench"), *group("peers"))
    session.run("python", "-m", "benchmarks.run", *session.posargs)


@nox.session(python=OLDEST)
def durable(session: nox.Session) -> None:
    """Run the benchmarks of durable uploads on both databases; `-- kill --kills 5` runs a short version of one."""
    session.install(*LOCKED, ".[durable,sandbox]", *group("tests"), *group("bench"))
    session.run("python", "-m", "benchmarks.durable", *session.posargs, env={"PYTHONPATH": "tests"})


@nox.session(python=OLDEST)
def soak(session: nox.Session) -> None:
    """Run all kinds of calls at once for a minute on each event loop; check for lost data and leaks."""
    session.install(*LOCKED, ".[sandbox]", *group("bench"))
    for loop in ("asyncio", "trio"):
        session.run("python", "-m", "benchmarks.soak", "--loop", loop, *session.posargs)


@nox.session(python=NEWEST)
def docs(session: nox.Session) -> None:
    """Build the documentation in both languages to build/docs, and check its links; needs no network."""
    session.install(*LOCKED, ".[all]", *group("tests"), *group("docs"))
    out = ROOT / "build" / "docs"
    shutil.rmtree(out, ignore_errors=True)
    for language in ("en", "zh"):
        options = ["-q", "-W", "--keep-going", "-j", "auto", "-t", language, "-c", "docs"]
        trees = f"{out}/.doctrees/{language}"
        session.run("sphinx-build", *options, "-d", trees, f"docs/{language}", f"{out}/{language}")
    for name in ("index.html", "llms.txt"):  # these link to both languages
        shutil.copy(ROOT / "docs" / name, out)
    session.run("pytest", "tests/docs/test_docs_built.py", *session.posargs, env={"GATEPAY_TEST_DOCS": str(out)})
    session.log(f"open {out / 'index.html'}")


@nox.session(python=NEWEST)
def build(session: nox.Session) -> None:
    """Build the wheel and the sdist in dist/, and check their contents."""
    session.install(*LOCKED, *group("build"))
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    wheel, sdist = next(dist.glob("*.whl")), next(dist.glob("*.tar.gz"))
    session.run("twine", "check", "--strict", str(wheel), str(sdist))
    session.run("python", "tests/packaged.py", str(dist))


@nox.session(python=NEWEST)
def sbom(session: nox.Session) -> None:
    """Write the software bill of materials (CycloneDX) of all extras to build/sbom.cdx.json. Not part of `nox`."""
    session.install(*LOCKED, ".[all]")
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    (ROOT / "build").mkdir(exist_ok=True)
    session.install(*LOCKED, *group("sbom"))
    session.run("cyclonedx-py", "environment", "--output-file", "build/sbom.cdx.json", str(python).strip())
