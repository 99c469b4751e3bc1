"""Kills a process while it deduplicates card keys."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]


@pytest.mark.skipif(sys.platform != "linux", reason="open files are read from /proc")
def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    """If a process is killed while its deduplicator has a file open, no file is left."""
    program = (
        "import sys; from gatepay_async import dedup; dedup._CACHE_KIB = 64\n"
        "seen = dedup.SpillingDeduplicator(max_keys_in_memory=10)\n"
        "seen.find_repeated([f'KEY-{n:05d}' for n in range(20_000)]); print('ready', flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "SQLITE_TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        opened = [str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
        assert [name for name in opened if str(tmp_path) in name]
        assert list(tmp_path.iterdir()) == []
        process.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
