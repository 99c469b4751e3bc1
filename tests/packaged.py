"""
What is in the wheel and in the sdist: all that must be, and nothing else. Run by `nox -s build`, outside of pytest.

    python tests/packaged.py FOLDER

Lists what it finds, folder by folder; ends with 1 if anything is strange, missing, or looks like a secret.
"""

import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

Contents = dict[str, bytes]

OF_THE_WHEEL = re.compile(
    r"gatepay_async/(\w+/)*(\w+\.py|py\.typed|static/\w+\.(css|js|svg)|templates/\w+\.html)"
    r"|_gatepay_async_pytest\.py"
    r"|gatepay_async-[\d.]+\.dist-info/(METADATA|WHEEL|RECORD|entry_points\.txt|licenses/LICENSE)"
)
OF_THE_SDIST = re.compile(
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
# GatePay's secrets and signatures are 32 hex digits, and so are the names of the vendor's pictures.
SECRETS = {
    "32 hex digits": re.compile(rb"(?<![0-9A-Za-z])[0-9a-f]{32}(?![0-9A-Za-z]|\.(png|jpe?g))"),
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a token": re.compile(rb"\b(ghp_|github_pat_|pypi-|AKIA|xox[bp]-|sk_live_)[0-9A-Za-z_-]{16}"),
    "a path of somebody's": re.compile(rb"(?<![\w.])/(home|root|Users)/\w"),
}
LINK = re.compile(r"\]\((?!\w+:|#)([^)]+)\)")
# Tests are full of secrets that open nothing, and of whatever else may look like one.
MAY_LOOK_SO = re.compile(r"tests/")


def wheel(path: Path) -> Contents:
    """The files of a wheel."""
    with ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sdist(path: Path) -> Contents:
    """The files of an sdist, without the folder that all of them are in."""
    with tarfile.open(path) as archive:
        files = {each.name: archive.extractfile(each) for each in archive.getmembers() if not each.isdir()}
        return {name.partition("/")[2]: b"" if file is None else file.read() for name, file in files.items()}


def problems_of_a_wheel(files: Contents) -> Iterator[str]:
    """What is wrong with it, a sentence each."""
    yield from _strange(files, OF_THE_WHEEL, NEEDED_IN_THE_WHEEL)
    yield from (f"{name} is a test" for name in files if TESTS.search(name))
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in files):
        yield "the licence is missing"
    yield from _relative_links(files)
    yield from _secrets(files)


def problems_of_an_sdist(files: Contents) -> Iterator[str]:
    """As ``problems_of_a_wheel``; the tests are in it, so that whoever packages it further can run them."""
    yield from _strange(files, OF_THE_SDIST, NEEDED_IN_THE_SDIST)
    yield from _secrets({name: content for name, content in files.items() if not MAY_LOOK_SO.match(name)})


def _strange(files: Contents, known: re.Pattern[str], needed: tuple[str, ...]) -> Iterator[str]:
    yield from (f"{name} should not be there" for name in files if known.fullmatch(name) is None)
    yield from (f"{name} is missing" for name in needed if name not in files)


def _relative_links(files: Contents) -> Iterator[str]:
    """A package index shows the README far from the files beside it."""
    for name, content in files.items():
        if name.endswith(".dist-info/METADATA"):
            yield from (f"{name} links to {target}, which is relative" for target in LINK.findall(content.decode()))


def _secrets(files: Contents) -> Iterator[str]:
    for name, content in files.items():
        for kind, look in SECRETS.items():
            # Never what it is.
            yield from (f"{name}, byte {found.start()}: {kind}" for found in look.finditer(content))


def main(folder: Path) -> int:
    """Look into both."""
    problems: list[str] = []
    for path, read, look in (
        (next(folder.glob("*.whl")), wheel, problems_of_a_wheel),
        (next(folder.glob("*.tar.gz")), sdist, problems_of_an_sdist),
    ):
        files = read(path)
        folders = Counter(str(PurePosixPath(name).parent) for name in files)
        print(f"{path.name}: {len(files)} files")
        for name, count in sorted(folders.items()):
            print(f"  {count:4} {name}")
        problems += [f"{path.name}: {problem}" for problem in look(files)]
    print("\n".join(problems) or "all of it is known, and nothing looks like a secret")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
