"""
For .ci/run: which sessions are left to run, and how long those that ran took.

    nox -l --json | python .ci/sessions.py names
    python .ci/sessions.py times REPORT
"""

import json
import sys
from pathlib import Path

if sys.argv[1] == "names":
    names = [each["session"] for each in json.load(sys.stdin)]
    # The README's second command has run `tests`.
    print("\n".join(name for name in names if name != "tests"))
else:
    print(f"\n{'session':28} {'seconds':>8}  result")
    for each in json.loads(Path(sys.argv[2]).read_text("utf-8"))["sessions"]:
        name = each["signatures"][0] if each["signatures"] else each["name"]
        print(f"{name:28} {each['duration']:8.0f}  {each['result']}")
