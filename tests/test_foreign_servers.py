"""Listings from servers that differ in their replies to a page past the last one, while the stock changes."""

import asyncio
from typing import Literal, get_args

import anyio
import pytest

from gatepay_async import AsyncGatePay, CardKeyListing, CardKeyPage, InvalidPageError, RetryPolicy, TransportError
from gatepay_async.protocol.calls import KaShow
from gatepay_async.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.anyio]  # 72 listings over HTTP

# What a server replies to a page past the last one: the values of the sandbox's ``past_last_page``.
PastLastPage = Literal["empty", "clamp", "refuse", "thinkphp"]


def change_stock(event: str, sandbox: Sandbox) -> None:
    """Change the stock of 230 keys as *event* says. Called after the first page was listed."""
    ids = sandbox.key_ids(8)
    if event == "a page is sold":
        sandbox.delete_keys(8, ids[:50])
    elif event == "most are sold":
        sandbox.delete_keys(8, ids[:190])
    elif event == "all are sold":
        sandbox.delete_keys(8, ids)
    elif event == "a page comes back":
        sandbox.restore_keys(8, {number: f"OLD-{number}" for number in range(1, 51)})
    elif event == "pages get shorter":
        sandbox.set_per_page(20)


@pytest.mark.parametrize("past_last_page", get_args(PastLastPage))
async def test_listing_has_each_remaining_key_once(past_last_page: PastLastPage) -> None:
    """Every key that stays in the stock is listed once, whatever the server replies and however the stock changes."""
    failures: list[str] = []
    events = ["nothing", "a page is sold", "most are sold", "all are sold", "a page comes back", "pages get shorter"]
    for event in events:
        for prefetch, thorough in ((1, False), (4, False), (3, True)):
            with Sandbox(seed=False, past_last_page=past_last_page) as sandbox:
                sandbox.add_keys(8, [f"GONE-{number}" for number in range(60)])
                sandbox.add_keys(8, [f"KEY-{number}" for number in range(230)])
                sandbox.delete_keys(8, sandbox.key_ids(8)[:60])
                async with (
                    sandbox.serve() as base_url,
                    AsyncGatePay(sandbox.appkey, sandbox.appsecret, base_url=base_url) as gatepay,
                ):
                    listing = gatepay.list_card_keys(8, prefetch=prefetch, thorough=thorough)
                    listed: list[int] = []
                    async for page in listing.pages():
                        if not listed:
                            change_stock(event, sandbox)
                        listed += [key.id for key in page.keys]
                # Ids up to 60 were deleted before the listing. They are back after "a page comes back".
                remaining = {number for number in sandbox.key_ids(8) if number > 60}
                if listed != sorted(set(listed)) or remaining - set(listed) or listing.drifted != (event != "nothing"):
                    failures.append(
                        f"{event}, prefetch {prefetch}, thorough {thorough}: {len(remaining - set(listed))} lost"
                    )
    assert failures == []


async def test_refusal_of_page_1_is_raised() -> None:
    """A refusal of page 1 is raised. A refusal of a later page ends the listing."""

    async def send(call: KaShow) -> CardKeyPage:
        await anyio.lowlevel.checkpoint()
        raise InvalidPageError(code=108, message="", endpoint=call.path)

    for prefetch in (1, 3):
        with pytest.raises(InvalidPageError):
            [key async for key in CardKeyListing(send, KaShow(8), prefetch=prefetch, thorough=False)]
    assert [key async for key in CardKeyListing(send, KaShow(8, page=9), prefetch=1, thorough=False)] == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio's Cancelled can't be raised by a program
@pytest.mark.parametrize("prefetch", [1, 4])
async def test_unrelated_cancelled_error_becomes_transport_error(prefetch: int) -> None:
    """A CancelledError from a call that wasn't cancelled becomes a TransportError, and the listing can continue."""
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
                listed: list[int] = []
                with pytest.raises(TransportError) as caught:  # noqa: PT012 -- the keys before the error are needed
                    async for key in keys:
                        listed.append(key.id)  # noqa: PERF401 -- a comprehension would lose it
                assert caught.value.problem == "the request was cancelled, but not by its caller"
                broken = False
                assert listed + [key.id async for key in keys] == sandbox.key_ids(8)


async def test_base_exception_is_not_wrapped_in_a_group() -> None:
    """A BaseException of a call is raised as it is, not in an exception group."""

    class StopEverythingError(BaseException):
        pass

    async def send(_: KaShow) -> CardKeyPage:
        await anyio.lowlevel.checkpoint()
        raise StopEverythingError

    for prefetch in (1, 3):
        with pytest.raises(StopEverythingError):
            [key async for key in CardKeyListing(send, KaShow(8), prefetch=prefetch, thorough=False)]


def test_sandbox_rejects_invalid_paging_options() -> None:
    """An unknown past_last_page and a per_page of 0 are rejected."""
    with pytest.raises(ValueError, match="past_last_page"):
        Sandbox(past_last_page="else")  # type: ignore[arg-type]  # invalid on purpose
    with Sandbox() as sandbox, pytest.raises(ValueError, match="per_page"):
        sandbox.set_per_page(0)
