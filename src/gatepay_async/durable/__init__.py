"""
Uploads that survive a crash and spread over machines; the extra ``durable``, on DBOS. On asyncio only.

See ``DurableUploads``.
"""

try:
    from gatepay_async.durable.errors import DurableError, QueueUnavailableError, SourceChangedError
    from gatepay_async.durable.jobs import Job, JobInfo, JobState
    from gatepay_async.durable.records.rows import QueueInfo
    from gatepay_async.durable.spool.folder import FolderSpool, Source, Spool
    from gatepay_async.durable.submitter import Submitter
    from gatepay_async.durable.uploads import DurableUploads
    from gatepay_async.durable.work.rate_limiter import Rate
    from gatepay_async.durable.worker import Worker
except ModuleNotFoundError as error:
    if str(error.name).startswith("gatepay_async"):
        raise
    missing = f"durable uploads need {error.name}, which is not installed: pip install 'gatepay-async[durable]'"
    raise ModuleNotFoundError(missing, name=error.name) from error

__all__ = [
    "DurableError",
    "DurableUploads",
    "FolderSpool",
    "Job",
    "JobInfo",
    "JobState",
    "QueueInfo",
    "QueueUnavailableError",
    "Rate",
    "Source",
    "SourceChangedError",
    "Spool",
    "Submitter",
    "Worker",
]
