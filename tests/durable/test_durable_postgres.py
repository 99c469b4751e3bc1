"""The PostgreSQL server that all processes of a test run share."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from shared_postgres import shared
from waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.without_coverage]

USER_PROGRAM = """
import sys
from pathlib import Path
from shared_postgres import shared

with shared(Path(sys.argv[1])) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def start_user(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """Start a process that uses the server. Return it and the server's port."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", USER_PROGRAM, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_shared_server_runs_until_its_last_user_dies(postgres_programs: Path, tmp_path: Path) -> None:
    """The server survives the process that started it and stops after its last user. Then a new one can be started."""
    first, port = start_user(tmp_path)
    with shared(tmp_path) as server:
        first.kill()
        first.communicate()
        with psycopg.connect(server.url(server.ready_database())) as connection:
            assert connection.execute("SELECT count(*) FROM dbos.workflow_status").fetchone() == (0,)
        last, port_of_last = start_user(tmp_path)
    assert port == server.port == port_of_last
    last.kill()
    last.communicate()
    wait_until(lambda: not server.folder.exists())
    with shared(tmp_path) as new_server:
        assert new_server.folder != server.folder
    wait_until(lambda: not new_server.folder.exists())
