"""Checks the extra `cli`: `gatepay demo` works in both languages, in an empty environment."""

import subprocess
import sys
import tempfile
from pathlib import Path

GATEPAY = Path(sys.executable).with_name("gatepay")

for language, last_line in (("en", "Everything works."), ("zh", "一切正常。")):
    with tempfile.TemporaryDirectory() as folder:
        # The environment has no PATH, HOME, locale or GATEPAY_ variable. The folder is empty and must stay empty.
        command = [str(GATEPAY), "demo", "--lang", language]
        result = subprocess.run(command, cwd=folder, env={}, capture_output=True, encoding="utf-8", check=False)
        print(result.stdout + result.stderr)
        if result.returncode or last_line not in result.stdout or result.stderr or any(Path(folder).iterdir()):
            sys.exit(result.returncode or f"unexpected output, or files were left: {sorted(Path(folder).iterdir())}")
