"""Opens the queue of durable uploads that the environment configures, and explains its errors."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from gatepay_async.cli import settings
from gatepay_async.cli.extras import require_extra
from gatepay_async.cli.language import text
from gatepay_async.cli.profiles import app_folder
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.protocol import invisible
from gatepay_async.words.problem import os_reason

if TYPE_CHECKING:
    from gatepay_async.durable import DurableError, DurableUploads, Job, Submitter


def durable_uploads() -> DurableUploads:
    """
    Return the queue of the current shop. Each shop, and each sandbox, has its own queue.

    Raises:
        HaltError: The extra isn't installed, or a variable is invalid.
    """
    with require_extra("durable"):
        from gatepay_async.durable import DurableUploads
    database = os.environ.get("GATEPAY_UPLOADS", "") or _default_database()
    # A hash, because the name of a queue allows few characters.
    shop_hash = blake2b(
        f"{_normalize_url(settings.base_url())} {settings.appkey()}".encode(), digest_size=8
    ).hexdigest()
    spool = os.path.expanduser(os.environ.get("GATEPAY_UPLOADS_SPOOL", "")) or None  # noqa: PTH111 -- Path.expanduser() raises without a home
    with explain_errors():
        return DurableUploads(settings.credentials().client, database=database, spool=spool, name=f"shop-{shop_hash}")


def _halt_error(error: DurableError, *, todo: str = "", status: Status = Status.USAGE) -> HaltError:
    """Return the command's error for an error of the queue."""
    return HaltError(error.problem, todo=todo, status=status)


@contextmanager
def explain_errors() -> Generator[None]:
    """
    Turn errors of the queue into errors of the command.

    Raises:
        HaltError: The queue can't be reached, or has refused the request.
    """
    from gatepay_async.durable import DurableError, QueueUnavailableError

    try:
        yield
    except QueueUnavailableError as error:
        raise _halt_error(error, todo=text("queue.away.todo"), status=Status.NO_ANSWER) from None
    except DurableError as error:
        raise _halt_error(error) from None
    except BrokenPipeError:  # standard output was closed, which is not an error of the queue
        raise
    except OSError as error:
        if error.filename is None:  # an error of writing: the disk is full, for example
            raise HaltError(text("queue.unwritable", reason=os_reason(error)), status=Status.NO_OUTPUT) from None
        raise HaltError(text("queue.file", path=error.filename, reason=os_reason(error))) from None


@asynccontextmanager
async def open_submitter() -> AsyncGenerator[Submitter]:
    """Open the queue for reading and submitting jobs."""
    uploads = durable_uploads()
    with explain_errors():
        async with uploads.submitter() as submitter:
            yield submitter


def job_number(job: Job) -> str:
    """Return the job's ID without the name of the queue."""
    return job.id.rpartition(":")[2]


async def find_job(submitter: Submitter, prefix: str) -> Job:
    """
    Return the job whose number starts with *prefix*.

    Raises:
        HaltError: There is no such job, or more than one.
    """
    jobs = [job for job in await submitter.jobs() if prefix and job_number(job).startswith(prefix)]
    if len(jobs) != 1:
        raise HaltError(text("queue.none" if not jobs else "queue.several", prefix=prefix), todo=text("queue.todo"))
    return jobs[0]


def _normalize_url(text: str) -> str:
    """Normalize a base URL as the client does. An invalid one is returned unchanged; the client refuses it later."""
    with suppress(BadUrlError):
        return f"{parse_url(invisible.strip(text))}".rstrip("/") + "/"
    return text


def _default_database() -> str:
    """Return the URL of the default database in this user's folder, which is created if needed."""
    folder = app_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HaltError(text("queue.folder", path=folder, reason=os_reason(error))) from None
    return f"sqlite:///{folder / 'uploads.sqlite3'}"
