"""The PostgreSQL server that all processes of a test run share."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from shared_postgres import shared
from surroundings import python_path
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


@contextmanager
def user_of_server(folder: Path) -> Generator[tuple[subprocess.Popen[str], int]]:
    """Start a process that uses the server. Yield it and the server's port. At the end, kill it."""
    environment = {**os.environ, "PYTHONPATH": python_path(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", USER_PROGRAM, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def test_shared_server_runs_until_its_last_user_dies(postgres_programs: Path, tmp_path: Path) -> None:
    """The server survives the process that started it and stops after its last user. Then a new one can be started."""
    with ExitStack() as second_user:
        with user_of_server(tmp_path) as (first, port), shared(tmp_path) as server:
            first.kill()
            first.wait()
            with psycopg.connect(server.url(server.ready_database())) as connection:
                assert connection.execute("SELECT count(*) FROM dbos.workflow_status").fetchone() == (0,)
            _, port_of_last = second_user.enter_context(user_of_server(tmp_path))
        assert port == server.port == port_of_last
    wait_until(lambda: not server.folder.exists())
    with shared(tmp_path) as new_server:
        assert new_server.folder != server.folder
    wait_until(lambda: not new_server.folder.exists())
