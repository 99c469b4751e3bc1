"""docs/transcripts.py: reads, compares and updates the commands on a page. test_docs_console.py runs them."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import anyio
import pytest
from tables import rows

pytestmark = [pytest.mark.fast, pytest.mark.without_coverage]

ROOT = Path(__file__).parents[2]
TRANSCRIPTS = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "transcripts.py")))
PAGE = """# A page

```console
$ gatepay products
8  a product
$ echo $?
0
```

```text
$ gatepay demo
```

```console
$ gatepay callback verify 'a=1&b=2'
```
"""


def test_only_harmless_commands_are_run() -> None:
    """The pages run only `gatepay`, and commands that show files and the exit status or create a CSV file."""
    shown = [line.command for page in TRANSCRIPTS.pages() for block in TRANSCRIPTS.blocks_of(page) for line in block]
    assert shown
    assert not [
        command
        for command in shown
        if not re.match(r"gatepay |cat |echo \$\?|pip install |printf '[^']*' > \w+\.csv$", command)
    ]


def test_pip_install_is_not_run() -> None:
    """`pip install` isn't run: it would change the Python that runs the tests, and needs a network."""
    assert anyio.run(TRANSCRIPTS.execute, "pip install ./nothing", 1, Path(), {}, None) == (0, "")


@rows(
    ("command", "arguments"),
    [
        ("gatepay", []),
        ("gatepay keys upload keys.txt --product 8", ["keys", "upload", "keys.txt", "--product", "8"]),
        ("gatepay callback verify 'a=1&b=*'", ["callback", "verify", "a=1&b=*"]),
        ("gatepay pay --order=T-1 --custom it@x,y:z+%", ["pay", "--order=T-1", "--custom", "it@x,y:z+%"]),
        ("gatepay pay --custom 密", ["pay", "--custom", "密"]),
        ("gatepay pay --custom ''", ["pay", "--custom", ""]),
        *(
            (f"gatepay products{rest}", None)
            for rest in (" | head", " > x", "; ls", " $HOME", " &", " *", " ~", " `x`")
        ),
        *((f"gatepay products {rest}", None) for rest in ("\\x", '"$HOME"', "{a,b}", "a?", "[ab]", "# x", "!x", "(x)")),
        *((line, None) for line in ("cat keys.txt", "echo $?", "LANG=C gatepay products", "./gatepay products")),
    ],
)
def test_simple_commands_are_run_without_a_shell(command: str, arguments: list[str] | None) -> None:
    """A command runs without a shell only if a shell would pass its words unchanged."""
    assert TRANSCRIPTS.arguments_without_shell(command) == arguments


def test_output_is_updated(tmp_path: Path) -> None:
    """New output replaces the shown output, block by block. The rest of the page is unchanged."""
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    blocks = TRANSCRIPTS.blocks_of(page)
    assert [[(line.command, line.printed) for line in block] for block in blocks] == [
        [("gatepay products", "8  a product\n"), ("echo $?", "0\n")],
        [("gatepay callback verify 'a=1&b=2'", "")],
    ]
    assert TRANSCRIPTS.page_with_output(page, blocks) == PAGE
    blocks[0][0] = TRANSCRIPTS.ShownCommand("gatepay products", "9  another\n")
    assert TRANSCRIPTS.page_with_output(page, blocks) == PAGE.replace("8  a product", "9  another")


@rows(
    ("printed", "shown"),
    [
        ("at http://127.0.0.1:45678/api/ \n\n", "at http://127.0.0.1:…/api/\n"),
        ("\n\n", ""),
        ("2026-01-01 12:00:00 +0800", "…\n"),
        ("GET ?appkey=0123456789abcdef&sign=0123456789abcdef0123456789abcdef", "GET ?appkey=…&sign=…\n"),
        ("it took (12 ms", "it took (… ms\n"),
        ("gatepay-async 1.0.0", "…\n"),
    ],
)
def test_varying_output_is_masked(printed: str, shown: str) -> None:
    """Ports, times, signatures, versions and trailing spaces are not compared."""
    assert TRANSCRIPTS.mask_variable_parts(printed) == shown
