"""Checks the extra `s3`: card keys are read from an object in a store, and the spool is in the same store."""

import tempfile

import anyio

from gatepay_async import AsyncGatePay
from gatepay_async.durable import DurableUploads
from gatepay_async.durable.objects import ObjectSpool, StoredObject


async def main(folder: str) -> None:
    """Submit an object."""
    from obstore.store import MemoryStore  # noqa: PLC0415 -- our import above names the missing extra

    store = MemoryStore()
    await store.put_async("keys.txt", b"AAA\nBBB\nAAA\n")
    uploads = DurableUploads(AsyncGatePay, database=f"sqlite:///{folder}/uploads.sqlite3", spool=ObjectSpool(store))
    async with uploads.submitter() as submit:
        info = await (await submit.file(StoredObject(store, "keys.txt"), product_id=8)).info()
    print(info)
    waiting = [item["path"] for page in store.list() for item in page if item["path"].endswith(".keys")]
    assert (info.count, len(waiting)) == (2, 1)


with tempfile.TemporaryDirectory() as new_folder:
    anyio.run(main, new_folder)
