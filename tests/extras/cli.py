"""What the extra `cli` promises: `gatepay demo`, with nothing else on the machine, in both languages."""

import subprocess
import sys
import tempfile
from pathlib import Path

GATEPAY = Path(sys.executable).with_name("gatepay")

for language, held in (("en", "Everything works."), ("zh", "一切正常。")):
    with tempfile.TemporaryDirectory() as folder:
        # No PATH, no HOME, no locale, nothing of GatePay's, and a folder that is empty and stays so.
        command = [str(GATEPAY), "demo", "--lang", language]
        done = subprocess.run(command, cwd=folder, env={}, capture_output=True, encoding="utf-8", check=False)
        print(done.stdout + done.stderr)
        if done.returncode or held not in done.stdout or done.stderr or any(Path(folder).iterdir()):
            sys.exit(done.returncode or f"not as it should be: {sorted(Path(folder).iterdir())}")
