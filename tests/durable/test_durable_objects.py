"""A store of objects as a spool and as an input: an S3-compatible server on loopback."""

import io
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, adds_up, keys_of
from obstore.exceptions import GenericError
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store

from gatepay_async.durable import SourceChangedError, objects
from gatepay_async.durable.objects import ObjectSpool, StoredObject

pytestmark = [pytest.mark.sockets, pytest.mark.anyio]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Speaks S3."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 -- each worker imports this module, but few this one

    it = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    it.start()
    yield "http://{}:{}".format(*it.get_host_and_port())
    it.stop()


@pytest.fixture
def store(server: str, tmp_path: Path) -> S3Store:
    """An empty bucket."""
    name = f"bucket-{os.getpid()}-{tmp_path.name.replace('_', '-').lower()[:30]}"
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT")).close()  # noqa: S310 -- loopback
    return S3Store(
        name, endpoint=server, access_key_id="a", secret_access_key="b", region="us-east-1",
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_through_a_bucket(
    workspace: Workspace, shop: Shop, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Card keys come from a bucket, read by ranges, wait in a bucket, and go from there when all are on the server."""
    monkeypatch.setattr(objects, "_READ_BYTES", 1000)
    obstore.put(store, "input/keys.txt", "".join(f"{key}\n" for key in keys_of(1200)).encode())
    spool = ObjectSpool(store, prefix="waiting/")
    uploads = workspace.uploads(shop, spool=spool)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(StoredObject(store, "input/keys.txt"), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        assert (await job.info()).name == "input/keys.txt"
    assert (report.stored, report.ok) == (1200, True)
    assert adds_up(report)
    assert [each["path"] for each in obstore.list(store, "waiting").collect()] == ["waiting/digest-key"]
    assert await spool.secret() == await ObjectSpool(store, prefix="waiting/").secret()
    assert repr(spool) == "ObjectSpool(prefix='waiting/')"


async def test_an_object_that_is_gone(store: S3Store) -> None:
    """An object that is not there any more is a source that has changed."""
    with pytest.raises(SourceChangedError, match="name: is gone"):
        await ObjectSpool(store).read("name", 0, 1)


@pytest.mark.parametrize("kind", ["bucket", "folder", "memory"])
async def test_past_the_end(store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Reading past the end gives less, or nothing, whatever a store says of it; what else it says stays its own."""
    stores: dict[str, ObjectStore] = {"bucket": store, "folder": LocalStore(tmp_path), "memory": MemoryStore()}
    spool = ObjectSpool(stores[kind])
    await spool.put("name", io.BytesIO(b"12345"))
    assert [await spool.read("name", offset, 4) for offset in (0, 3, 5, 9)] == [b"1234", b"45", b"", b""]

    async def fails(*_: object, **__: object) -> bytes:
        raise GenericError

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "get_range_async", fails)
        with pytest.raises(GenericError):
            await spool.read("name", 0, 4)
    await spool.delete("name")
    await spool.delete("name")


@pytest.mark.parametrize("gone", [False, True])
async def test_an_object_that_changes(
    store: S3Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gone: bool,  # noqa: FBT001 -- pytest gives it
) -> None:
    """An object that changes, or goes, while it is read is not believed."""
    obstore.put(store, "keys.txt", b"KEY-1\nKEY-2\n")
    head = obstore.head_async

    async def change(store: S3Store, path: str) -> object:
        facts = await head(store, path)
        if gone:
            obstore.delete(store, path)
        else:
            obstore.put(store, path, b"KEY-3\nKEY-4\n")
        return facts

    monkeypatch.setattr(obstore, "head_async", change)
    with pytest.raises(SourceChangedError, match="has changed while it was read"):
        await StoredObject(store, "keys.txt").copy_to(io.BytesIO())


async def test_without_a_tag(store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that gives no tags is read all the same."""
    obstore.put(store, "keys.txt", b"KEY-1\nKEY-2\n")
    head = obstore.head_async

    async def untagged(store: S3Store, path: str) -> object:
        return {**await head(store, path), "e_tag": None}

    monkeypatch.setattr(obstore, "head_async", untagged)
    copy = io.BytesIO()
    await StoredObject(store, "keys.txt").copy_to(copy)
    assert copy.getvalue() == b"KEY-1\nKEY-2\n"
