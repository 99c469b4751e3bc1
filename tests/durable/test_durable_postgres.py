"""The PostgreSQL that the tests share: one for all processes of a run, and gone after the last of them."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from shared_postgres import shared
from waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.uncounted]

USER = """
import sys
from pathlib import Path
from shared_postgres import shared

with shared(Path(sys.argv[1])) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def user(place: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that uses the server, and the port of that."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(place)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_one_for_all(postgres_programs: Path, tmp_path: Path) -> None:
    """It outlives whoever started it, also one that is killed; when the last one has died it stops, and can be anew."""
    first, port = user(tmp_path)
    with shared(tmp_path) as server:
        first.kill()
        first.communicate()
        with psycopg.connect(server.url(server.ready_database())) as connection:
            assert connection.execute("SELECT count(*) FROM dbos.workflow_status").fetchone() == (0,)
        last, same = user(tmp_path)
    assert port == server.port == same
    last.kill()
    last.communicate()
    wait_until(lambda: not server.folder.exists())
    with shared(tmp_path) as fresh:
        assert fresh.folder != server.folder
    wait_until(lambda: not fresh.folder.exists())
