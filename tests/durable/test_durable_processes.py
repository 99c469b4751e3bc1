"""Worker processes that are killed, and a PostgreSQL that is disconnected or restarted."""

import base64
from pathlib import Path

import anyio
import pytest
from attrs import define, field
from durable_shop import Shop, serving
from durable_workspace import POLL_S, PRODUCT, Workspace, adds_up, keys_of
from postgres import Postgres, link_to
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.hang_limit(180), pytest.mark.anyio]


@pytest.fixture(params=["sqlite", "postgresql"])
def own_workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """Create a database whose files contain no data of other tests."""
    if request.param == "sqlite":
        return Workspace(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3", files=tmp_path)
    server = request.getfixturevalue("own_postgres")
    return Workspace(tmp_path, server.url(server.new_database()), files=server.folder)


@define
class GatedShop(Shop):
    """A server that replies only to as many calls as ``let_through`` has allowed."""

    gate: anyio.Semaphore = field(factory=lambda: anyio.Semaphore(0))

    async def wait_before_reply(self) -> None:
        await self.gate.acquire()

    def let_through(self, calls: int) -> None:
        """Reply to *calls* more calls, in the order in which they arrived."""
        for _ in range(calls):
            self.gate.release()


async def test_other_workers_finish_the_batches_of_a_killed_worker(
    own_workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Another worker takes over a killed worker's batches: nothing is lost, and only chunks of these are sent twice.

    The database, its journals and the logs contain no card key, neither raw nor in base64.
    """
    workspace, keys = own_workspace, [f"SECRET{number:06d}KEY" for number in range(60_000)]
    keys[700] = "SECRET\0NUL"
    workspace.timeout = 600  # no call fails while the server makes it wait
    shop = GatedShop()
    async with serving(shop):
        # Code 109 refuses one card key only. The killed worker never takes this one: it is in the last of six batches.
        shop.refuse_with["SECRET055555KEY"] = 109
        uploads = workspace.uploads(shop)
        async with uploads.submitter() as submit, uploads.worker(concurrency=2, global_concurrency=4):
            async with workspace.process(shop, concurrency=2, global_concurrency=4) as process:
                job = await submit.file(workspace.file(keys), product_id=PRODUCT)
                await until(lambda: shop.in_flight == 4)  # each worker has two batches, and sends one chunk of each
                shop.let_through(8)  # at least one chunk of each batch, and not all 20 chunks of any batch
                await until(lambda: (sum(shop.sent.values()), shop.in_flight) == (8, 4))
                process.kill()
                await process.wait()
            shop.let_through(1000)  # more than all calls
            report = await job.wait(every=POLL_S)
    assert (report.stored + report.already_there, report.refused) == (59_998, 2)
    assert set(shop.stored.values()) == {1}
    # Without the last batch: its refused chunk is halved, and the first half begins with the same card key.
    sent_again = sum(count - 1 for first_key, count in shop.sent.items() if first_key < "SECRET05")
    # Sent again: the two calls that the killed worker had in flight, and the calls that it had finished. These are 2
    # (one of each of its batches) to 8 (all).
    assert 4 <= sent_again <= 10
    assert report.already_there >= 1000  # the card keys of at least two finished calls, which were sent again
    assert shop.most_in_flight == 4
    assert adds_up(report)
    text = b"".join(workspace.database_contents()) + caplog.text.encode()
    assert b"keys.txt" in text  # so the right files were searched
    assert b"SECRET" not in text
    for shift in range(3):  # base64 encodes three bytes together, so the result depends on the position
        coded = base64.b64encode(b"-" * shift + b"SECRET055555KEY")
        assert coded[4:-4] not in text


@pytest.mark.without_coverage
async def test_worker_that_joins_keeps_to_the_common_rate(workspace: Workspace, shop: Shop) -> None:
    """When a second worker starts, both together keep to the rate at once, before the first one has noticed it."""
    workspace.stamped = True  # each call has a header with its time, for shop.times
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, workspace.process(shop, concurrency=1, rate=(10, 0.5)):
        job = await submit.file(workspace.file(keys_of(200_000)), product_id=PRODUCT)
        async with workspace.process(shop, concurrency=1, rate=(10, 0.5)):
            calls_before_join = len(shop.times)
            # 120 more calls, or all 400, take up to six seconds. For three of these, the new worker sends nothing: by
            # then, the first one has noticed it.
            await until(lambda: len(shop.times) >= min(calls_before_join + 120, 400))
        await job.cancel()
    assert len(shop.times) > calls_before_join
    assert shop.most_in(0.5) <= 12  # the rate is 10 in 0.5 s


async def test_work_continues_after_the_connection_to_postgresql_was_cut(
    own_postgres: Postgres, tmp_path: Path, shop: Shop
) -> None:
    """While the database can't be reached, sending stops. Then it continues, and nothing is lost or stored twice."""
    shop.latency = POLL_S
    database = own_postgres.new_database()
    async with link_to(own_postgres.port) as link:
        direct = Workspace(tmp_path, own_postgres.url(database))
        linked = Workspace(tmp_path, own_postgres.url(database, port=link.port))
        async with direct.uploads(shop).submitter() as submit, linked.process(shop, concurrency=2):
            job = await submit.file(direct.file(keys_of(60_000)), product_id=PRODUCT)
            await until(lambda: len(shop.sent) >= 20)
            await link.cut_off()
            await until(lambda: shop.in_flight == 0)
            sent_before = len(shop.sent)
            link.cut = False
            report = await job.wait(every=POLL_S)
    assert sent_before < 120  # of 120 chunks: the connection was cut before all of them were sent
    assert report.stored + report.already_there == 60_000
    assert set(shop.stored.values()) == {1}
    assert adds_up(report)


async def test_work_continues_after_a_crash_of_postgresql(own_postgres: Postgres, shop: Shop, tmp_path: Path) -> None:
    """If the database crashes and is restarted, the upload continues, and nothing is lost or stored twice."""
    shop.latency = POLL_S
    workspace = Workspace(tmp_path, own_postgres.url(own_postgres.new_database()))
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2):
        job = await submit.file(workspace.file(keys_of(60_000)), product_id=PRODUCT)
        await until(lambda: len(shop.sent) >= 20)
        await anyio.to_thread.run_sync(lambda: own_postgres.stop(at_once=True))
        await until(lambda: shop.in_flight == 0)
        await anyio.to_thread.run_sync(own_postgres.start)
        report = await job.wait(every=POLL_S)
    assert report.stored + report.already_there == 60_000
    assert set(shop.stored.values()) == {1}
    assert adds_up(report)
