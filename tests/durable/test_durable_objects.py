"""Object stores as a spool and as an input, with an S3-compatible server on loopback."""

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
    """Start an S3 server, and yield its URL."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 -- moto is slow to import, and few test workers need it

    s3 = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    yield "http://{}:{}".format(*s3.get_host_and_port())
    s3.stop()


@pytest.fixture
def store(server: str, tmp_path: Path) -> S3Store:
    """Create an empty bucket."""
    name = f"bucket-{os.getpid()}-{tmp_path.name.replace('_', '-').lower()[:30]}"
    urllib.request.urlopen(urllib.request.Request(f"{server}/{name}", method="PUT")).close()  # noqa: S310 -- loopback
    return S3Store(
        name, endpoint=server, access_key_id="a", secret_access_key="b", region="us-east-1",
        virtual_hosted_style_request=False, client_options={"allow_http": True},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
async def test_upload_from_a_bucket_with_a_spool_in_a_bucket(
    workspace: Workspace, shop: Shop, store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Input and spool are in a bucket; the spooled card keys are deleted from it when the server has all of them."""
    monkeypatch.setattr(objects, "_READ_BYTES", 1000)  # so that the input is read in several ranges
    obstore.put(store, "input/keys.txt", "".join(f"{key}\n" for key in keys_of(1200)).encode())
    spool = ObjectSpool(store, prefix="waiting/")
    uploads = workspace.uploads(shop, spool=spool)
    async with uploads.submitter() as submit, uploads.worker():
        job = await submit.file(StoredObject(store, "input/keys.txt"), product_id=PRODUCT)
        report = await job.wait(every=POLL_S)
        assert (await job.info()).name == "input/keys.txt"
    assert (report.stored, report.ok) == (1200, True)
    assert adds_up(report)
    assert [entry["path"] for entry in obstore.list(store, "waiting").collect()] == ["waiting/digest-key"]
    assert await spool.secret() == await ObjectSpool(store, prefix="waiting/").secret()
    assert repr(spool) == "ObjectSpool(prefix='waiting/')"


async def test_reading_a_missing_object_raises_source_changed(store: S3Store) -> None:
    """Reading an object that doesn't exist raises ``SourceChangedError``."""
    with pytest.raises(SourceChangedError, match="name: is gone"):
        await ObjectSpool(store).read("name", 0, 1)


@pytest.mark.parametrize("kind", ["bucket", "folder", "memory"])
async def test_reading_past_the_end_returns_fewer_bytes(
    store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Reading past the end returns the bytes there are, for each kind of store. Other errors of a store are raised."""
    stores: dict[str, ObjectStore] = {"bucket": store, "folder": LocalStore(tmp_path), "memory": MemoryStore()}
    spool = ObjectSpool(stores[kind])
    await spool.put("name", io.BytesIO(b"12345"))
    assert [await spool.read("name", offset, 4) for offset in (0, 3, 5, 9)] == [b"1234", b"45", b"", b""]

    async def fail(*_: object, **__: object) -> bytes:
        raise GenericError

    with monkeypatch.context() as patched:
        patched.setattr(obstore, "get_range_async", fail)
        with pytest.raises(GenericError):
            await spool.read("name", 0, 4)
    await spool.delete("name")
    await spool.delete("name")  # deleting a missing object is not an error


@pytest.mark.parametrize("deleted", [False, True])
async def test_object_that_changes_while_it_is_read_is_refused(
    store: S3Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deleted: bool,  # noqa: FBT001 -- pytest passes it by name
) -> None:
    """Copying an object that is changed or deleted meanwhile raises ``SourceChangedError``."""
    obstore.put(store, "keys.txt", b"KEY-1\nKEY-2\n")
    head = obstore.head_async

    async def head_then_change(store: S3Store, path: str) -> object:
        metadata = await head(store, path)
        if deleted:
            obstore.delete(store, path)
        else:
            obstore.put(store, path, b"KEY-3\nKEY-4\n")
        return metadata

    monkeypatch.setattr(obstore, "head_async", head_then_change)
    with pytest.raises(SourceChangedError, match="has changed while it was read"):
        await StoredObject(store, "keys.txt").copy_to(io.BytesIO())


async def test_store_without_etags_can_be_read(store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object can be copied from a store that returns no ETags."""
    obstore.put(store, "keys.txt", b"KEY-1\nKEY-2\n")
    head = obstore.head_async

    async def head_without_etag(store: S3Store, path: str) -> object:
        return {**await head(store, path), "e_tag": None}

    monkeypatch.setattr(obstore, "head_async", head_without_etag)
    copy = io.BytesIO()
    await StoredObject(store, "keys.txt").copy_to(copy)
    assert copy.getvalue() == b"KEY-1\nKEY-2\n"
