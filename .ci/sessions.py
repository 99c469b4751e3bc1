"""
For .ci/run: which sessions are left to run, and how long those that ran took.

    nox -l --json | python .ci/sessions.py foreground|background
    python .ci/sessions.py times REPORT...
"""

import json
import sys
from pathlib import Path

# These run no tests that wait for anything, so they may be slowed down by others.
BACKGROUND = ("lint", "workflows", "typing", "bare", "extras", "docs", "build")

if sys.argv[1] == "times":
    print(f"\n{'session':28} {'seconds':>8}  result")
    for report in sys.argv[2:]:
        for each in json.loads(Path(report).read_text("utf-8"))["sessions"]:
            name = each["signatures"][0] if each["signatures"] else each["name"]
            print(f"{name:28} {each['duration']:8.0f}  {each['result']}")
else:
    for each in json.load(sys.stdin):
        # The README's second command has run `tests`.
        if each["session"] != "tests" and (each["name"] in BACKGROUND) == (sys.argv[1] == "background"):
            print(each["session"])
