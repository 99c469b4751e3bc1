"""The queue of durable uploads: where it is, as the environment says, and what to say when it can't be used."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

from gatepay_async.cli import settings
from gatepay_async.cli.extras import require_extra
from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.profiles import app_folder
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.protocol import invisible

if TYPE_CHECKING:
    from gatepay_async.durable import DurableError, DurableUploads, Job, Submitter


def durable_uploads() -> DurableUploads:
    """
    The queue of the shop that the environment names; each shop, and the sandbox, has its own.

    Raises:
        HaltError: The extra isn't there, or the environment is wrong.
    """
    with require_extra("durable"):
        from gatepay_async.durable import DurableUploads
    database = os.environ.get("GATEPAY_UPLOADS", "") or _default_database()
    shop = blake2b(f"{_normalize_url(settings.base_url())} {settings.appkey()}".encode(), digest_size=8).hexdigest()
    spool = os.path.expanduser(os.environ.get("GATEPAY_UPLOADS_SPOOL", "")) or None  # noqa: PTH111 -- Path.expanduser() raises without a home
    with explain_errors():
        return DurableUploads(settings.source().client, database=database, spool=spool, name=f"shop-{shop}")


def _halt_error(error: DurableError, *, todo: str = "", status: Status = Status.USAGE) -> HaltError:
    return HaltError(error.problem.in_(current_language()), todo=todo, status=status, problem=error.problem)


@contextmanager
def explain_errors() -> Generator[None]:
    """
    Explain what goes wrong with the queue.

    Raises:
        HaltError: It can't be reached, or not be used so.
    """
    from gatepay_async.durable import DurableError, QueueUnavailableError

    try:
        yield
    except QueueUnavailableError as error:
        raise _halt_error(error, todo=text("queue.away.todo"), status=Status.NO_ANSWER) from None
    except DurableError as error:
        raise _halt_error(error) from None
    except BrokenPipeError:  # who reads what is written has gone
        raise
    except OSError as error:
        raise HaltError(text("queue.file", path=error.filename, reason=error.strerror)) from None


@asynccontextmanager
async def open_submitter() -> AsyncGenerator[Submitter]:
    """The queue, open to be asked and added to."""
    uploads = durable_uploads()
    with explain_errors():
        async with uploads.submitter() as submit:
            yield submit


def job_number(job: Job) -> str:
    """What people call it by: long enough to be no other's."""
    return job.id.rpartition(":")[2]


async def find_job(submit: Submitter, prefix: str) -> Job:
    """
    The job whose number begins with *prefix*.

    Raises:
        HaltError: There is none, or more than one.
    """
    jobs = [job for job in await submit.jobs() if prefix and job_number(job).startswith(prefix)]
    if len(jobs) != 1:
        raise HaltError(text("queue.none" if not jobs else "queue.several", wanted=prefix), todo=text("queue.todo"))
    return jobs[0]


def _normalize_url(text: str) -> str:
    """One spelling for all that the client takes for the same URL; what is none stays, for the client to refuse."""
    with suppress(BadUrlError):
        return f"{parse_url(invisible.strip(text))}".rstrip("/") + "/"
    return text


def _default_database() -> str:
    """A file of the user's own, made if it isn't there, with all that leads to it."""
    folder = app_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HaltError(text("queue.folder", path=folder, reason=error.strerror)) from None
    return f"sqlite:///{folder / 'uploads.sqlite3'}"
