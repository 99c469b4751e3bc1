"""Listings of servers that answer a page past the last one each in its way, while the stock changes."""

import asyncio
from typing import Literal, get_args

import anyio
import pytest

from gatepay_async import AsyncGatePay, CardKeyListing, CardKeyPage, InvalidPageError, RetryPolicy, TransportError
from gatepay_async.protocol.calls import KaShow
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.anyio]  # seventy-two shops, each over HTTP

Past = Literal["empty", "clamp", "refuse", "thinkphp"]


def change(what: str, sandbox: Sandbox) -> None:
    """What happens to 230 keys once the first page has been given."""
    ids = sandbox.key_ids(8)
    if what == "a page is sold":
        sandbox.delete_keys(8, ids[:50])
    elif what == "most are sold":
        sandbox.delete_keys(8, ids[:190])
    elif what == "all are sold":
        sandbox.delete_keys(8, ids)
    elif what == "a page comes back":
        sandbox.restore_keys(8, {number: f"OLD-{number}" for number in range(1, 51)})
    elif what == "pages get shorter":
        sandbox.set_per_page(20)


@pytest.mark.parametrize("past", get_args(Past))
async def test_no_server_hides_a_key(past: Past) -> None:
    """Whatever comes past the last page, and whatever happens to the stock, each key that stays is given once."""
    wrong: list[str] = []
    happened = ["nothing", "a page is sold", "most are sold", "all are sold", "a page comes back", "pages get shorter"]
    for what in happened:
        for prefetch, thorough in ((1, False), (4, False), (3, True)):
            with Sandbox(seed=False, past_last_page=past) as sandbox:
                sandbox.add_keys(8, [f"GONE-{number}" for number in range(60)])
                sandbox.add_keys(8, [f"KEY-{number}" for number in range(230)])
                sandbox.delete_keys(8, sandbox.key_ids(8)[:60])
                async with (
                    sandbox.serve() as base_url,
                    AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay,
                ):
                    listing = gatepay.list_card_keys(8, prefetch=prefetch, thorough=thorough)
                    given: list[int] = []
                    async for page in listing.pages():
                        if not given:
                            change(what, sandbox)
                        given += [key.id for key in page.keys]
                stayed = {number for number in sandbox.key_ids(8) if number > 60}
                if given != sorted(set(given)) or stayed - set(given) or listing.drifted != (what != "nothing"):
                    wrong.append(f"{what}, prefetch {prefetch}, thorough {thorough}: {len(stayed - set(given))} lost")
    assert wrong == []


async def test_page_1_that_is_refused_is_an_error() -> None:
    """A refusal of page 1 is raised: it can't be told from a server that refuses every page."""

    async def send(call: KaShow) -> CardKeyPage:
        await anyio.lowlevel.checkpoint()
        raise InvalidPageError(code=108, message="", endpoint=call.path)

    for prefetch in (1, 3):
        with pytest.raises(InvalidPageError):
            [key async for key in CardKeyListing(send, KaShow(8), prefetch=prefetch, thorough=False)]
    assert [key async for key in CardKeyListing(send, KaShow(8, 9), prefetch=1, thorough=False)] == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's can't be raised by others
@pytest.mark.parametrize("prefetch", [1, 4])
async def test_a_cancellation_of_something_else_is_an_error(prefetch: int) -> None:
    """A CancelledError that comes out of a call nobody cancelled is a TransportError, and the walk can go on."""
    with Sandbox() as sandbox:
        async with sandbox.serve() as base_url:
            gatepay = AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url, retry=RetryPolicy(attempts=1))
            async with gatepay:
                broken = True

                async def send(call: KaShow) -> CardKeyPage:
                    if broken and call.page == 2:
                        raise asyncio.CancelledError
                    return await gatepay.send(call)

                keys = aiter(CardKeyListing(send, KaShow(8), prefetch=prefetch, thorough=False))
                given: list[int] = []
                with pytest.raises(TransportError) as caught:  # noqa: PT012 -- what came before the error is kept
                    async for key in keys:
                        given.append(key.id)  # noqa: PERF401 -- a comprehension would lose it
                assert caught.value.problem == "the request was cancelled, but not by its caller"
                broken = False
                assert given + [key.id async for key in keys] == sandbox.key_ids(8)


async def test_what_is_no_error_comes_as_itself() -> None:
    """A BaseException of a call comes out as itself, not in a group."""

    class StopEverythingError(BaseException):
        pass

    async def send(_: KaShow) -> CardKeyPage:
        await anyio.lowlevel.checkpoint()
        raise StopEverythingError

    for prefetch in (1, 3):
        with pytest.raises(StopEverythingError):
            [key async for key in CardKeyListing(send, KaShow(8), prefetch=prefetch, thorough=False)]


def test_the_sandbox_knows_these_servers_only() -> None:
    """Another way to answer, and a page without rows, are refused."""
    with pytest.raises(ValueError, match="past_last_page"):
        Sandbox(past_last_page="else")  # type: ignore[arg-type]  # the wrong one is what is tested
    with Sandbox() as sandbox, pytest.raises(ValueError, match="per_page"):
        sandbox.set_per_page(0)
