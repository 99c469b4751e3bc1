"""
Checks that the wheel and the sdist contain all required files and no others. `nox -s build` runs it, outside of pytest.

    python tests/packaged.py FOLDER

It lists the files by folder. The exit status is 1 if a file is unexpected or missing, or contains something like a
secret.
"""

import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

Contents = dict[str, bytes]

WHEEL_FILES = re.compile(
    r"gatepay_async/(\w+/)*(\w+\.py|py\.typed|static/\w+\.(css|js|svg)|templates/\w+\.html)"
    r"|_gatepay_async_pytest\.py"
    r"|gatepay_async-[\d.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)"
)
SDIST_FILES = re.compile(
    r"src/(gatepay_async/(\w+/)*(\w+\.py|py\.typed|static/\w+\.(css|js|svg)|templates/\w+\.html)|_gatepay_async_pytest\.py)"
    r"|(tests|benchmarks|examples|docs)/([\w-]+/)*[\w.-]+\.(py|md|txt|toml|json|css|html|po|svg|png|php|js|pem)"
    r"|README(\.zh-CN)?\.md|CHANGELOG\.md|CONTRIBUTING\.md|SECURITY\.md|LICENSE|PKG-INFO|noxfile\.py|pyproject\.toml"
    r"|\.gitignore|changelog\.d/[\w+.-]+\.(md|jinja)|requirements/\w+\.txt"
)
NEEDED_IN_THE_WHEEL = ("gatepay_async/py.typed", "gatepay_async/__init__.py", "_gatepay_async_pytest.py")
NEEDED_IN_THE_SDIST = (
    "src/gatepay_async/py.typed",
    "LICENSE",
    "README.md",
    "README.zh-CN.md",
    "pyproject.toml",
    "PKG-INFO",
)
TESTS = re.compile(r"(^|/)(tests?|test_\w+\.py|conftest\.py)(/|$)")
# GatePay's secrets and signatures have 32 hex digits. The names of GatePay's pictures do too, so they are excluded.
SECRETS = {
    "32 hex digits": re.compile(rb"(?<![0-9A-Za-z])[0-9a-f]{32}(?![0-9A-Za-z]|\.(png|jpe?g))"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a token": re.compile(rb"\b(ghp_|github_pat_|pypi-|AKIA|xox[bp]-|sk_live_)[0-9A-Za-z_-]{16}"),
    "a path in a home folder": re.compile(rb"(?<![\w.])/(home|root|Users)/\w"),
}
LINK = re.compile(r"\]\((?!\w+:|#)([^)]+)\)")
# Tests contain fake secrets, and other text that looks like a secret.
MAY_LOOK_SECRET = re.compile(r"tests/")


def read_wheel(path: Path) -> Contents:
    """Return the files of a wheel."""
    with ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read_sdist(path: Path) -> Contents:
    """Return the files of an sdist, without their common folder."""
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers() if not member.isdir()}
        return {name.partition("/")[2]: b"" if file is None else file.read() for name, file in files.items()}


def problems_of_a_wheel(files: Contents) -> Iterator[str]:
    """Yield what is wrong with a wheel, one sentence each."""
    yield from _wrong_files(files, WHEEL_FILES, NEEDED_IN_THE_WHEEL)
    yield from (f"{name} is a test" for name in files if TESTS.search(name))
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in files):
        yield "the licence is missing"
    yield from _relative_links(files)
    yield from _secrets(files)


def problems_of_an_sdist(files: Contents) -> Iterator[str]:
    """Yield what is wrong with an sdist. It contains the tests, so that packagers can run them."""
    yield from _wrong_files(files, SDIST_FILES, NEEDED_IN_THE_SDIST)
    yield from _secrets({name: content for name, content in files.items() if not MAY_LOOK_SECRET.match(name)})


def _wrong_files(files: Contents, expected: re.Pattern[str], needed: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{name} should not be there" for name in files if expected.fullmatch(name) is None)
    yield from (f"{name} is missing" for name in needed if name not in files)


def _relative_links(files: Contents) -> Iterator[str]:
    """Yield relative links in the README: on a package index they lead nowhere."""
    for name, content in files.items():
        if name.endswith(".dist-info/METADATA"):
            yield from (f"{name} links to {target}, which is relative" for target in LINK.findall(content.decode()))


def _secrets(files: Contents) -> Iterator[str]:
    for name, content in files.items():
        for kind, pattern in SECRETS.items():
            # Don't print the secret itself.
            yield from (f"{name}, byte {match.start()}: {kind}" for match in pattern.finditer(content))


def main(folder: Path) -> int:
    """Check the wheel and the sdist in *folder*. Return the exit status."""
    problems: list[str] = []
    for path, read, find_problems in (
        (next(folder.glob("*.whl")), read_wheel, problems_of_a_wheel),
        (next(folder.glob("*.tar.gz")), read_sdist, problems_of_an_sdist),
    ):
        files = read(path)
        folders = Counter(str(PurePosixPath(name).parent) for name in files)
        print(f"{path.name}: {len(files)} files")
        for name, count in sorted(folders.items()):
            print(f"  {count:4} {name}")
        problems += [f"{path.name}: {problem}" for problem in find_problems(files)]
    print("\n".join(problems) or "no unexpected files, and nothing looks like a secret")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
