"""Workers in processes of their own, killed, stopped and woken; and PostgreSQL cut off and restarted."""

import base64
from pathlib import Path

import anyio
import pytest
from durable_shop import Shop
from durable_workspace import POLL_S, PRODUCT, Workspace, adds_up, keys_of
from postgres import Postgres, link_to
from waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.hang_limit(180), pytest.mark.anyio]


@pytest.fixture(params=["sqlite", "postgresql"])
def own_room(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A database whose files hold nothing of other tests."""
    if request.param == "sqlite":
        return Workspace(tmp_path, f"sqlite:///{tmp_path}/uploads.sqlite3", files=tmp_path)
    server = request.getfixturevalue("own_postgres")
    return Workspace(tmp_path, server.url(server.database()), files=server.folder)


async def test_killed(own_room: Workspace, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """
    What a killed worker had is taken over: nothing is lost, and only what was in flight is sent again.

    No card key, raw or base64, is left in the database, its journals or the logs.
    """
    workspace, keys = own_room, [f"SECRET{number:06d}KEY" for number in range(60_000)]
    keys[700] = "SECRET\0NUL"
    shop.refuse_with["SECRET001234KEY"] = 109
    shop.latency = POLL_S
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, uploads.worker(concurrency=2, global_concurrency=4):
        job = await submit.file(workspace.file(keys), product_id=PRODUCT)
        async with workspace.process(shop, concurrency=2, global_concurrency=4) as process:
            await until(lambda: len(shop.sent) >= 30)
            process.kill()
        report = await job.wait(every=POLL_S)
    assert (report.stored + report.already_there, report.refused) == (59_998, 2)
    assert set(shop.stored.values()) == {1}
    assert sum(shop.sent.values()) - len(shop.sent) <= 2 * 20
    assert shop.most_in_flight <= 4
    assert adds_up(report)
    text = b"".join(workspace.kept()) + caplog.text.encode()
    assert b"keys.txt" in text  # it was looked at where it is
    assert b"SECRET" not in text
    for shift in range(3):
        coded = base64.b64encode(b"-" * shift + b"SECRET001234KEY")
        assert coded[4:-4] not in text


@pytest.mark.uncounted
async def test_one_more_at_a_rate(workspace: Workspace, shop: Shop) -> None:
    """A worker that joins others keeps to the rate from its first call on, though they don't know of it yet."""
    workspace.stamped = True
    uploads = workspace.uploads(shop)
    async with uploads.submitter() as submit, workspace.process(shop, concurrency=1, rate=(10, 0.5)):
        job = await submit.file(workspace.file(keys_of(200_000)), product_id=PRODUCT)
        async with workspace.process(shop, concurrency=1, rate=(10, 0.5)):
            joined = len(shop.times)
            # For the first half of this it sends nothing, as the other one doesn't know of it.
            await until(lambda: len(shop.times) >= min(joined + 120, 400))
        await job.cancel()
    assert len(shop.times) > joined
    assert shop.most_in(0.5) <= 12


async def test_the_way_to_postgresql_is_cut(own_postgres: Postgres, tmp_path: Path, shop: Shop) -> None:
    """While the way to the database is cut work stops; then it goes on by itself, and nothing is lost."""
    shop.latency = POLL_S
    database = own_postgres.database()
    async with link_to(own_postgres.port) as link:
        near = Workspace(tmp_path, own_postgres.url(database))
        far = Workspace(tmp_path, own_postgres.url(database, port=link.port))
        async with near.uploads(shop).submitter() as submit, far.process(shop, concurrency=2):
            job = await submit.file(near.file(keys_of(60_000)), product_id=PRODUCT)
            await until(lambda: len(shop.sent) >= 20)
            await link.cut_off()
            await until(lambda: shop.in_flight == 0)
            before = len(shop.sent)
            link.cut = False
            report = await job.wait(every=POLL_S)
    assert before < 120
    assert report.stored + report.already_there == 60_000
    assert set(shop.stored.values()) == {1}
    assert adds_up(report)


async def test_postgresql_is_restarted(own_postgres: Postgres, shop: Shop, tmp_path: Path) -> None:
    """A crash and restart of the database under load loses nothing; all goes on by itself."""
    shop.latency = POLL_S
    workspace = Workspace(tmp_path, own_postgres.url(own_postgres.database()))
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
