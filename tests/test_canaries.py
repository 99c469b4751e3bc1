"""Card keys planted in every part of replies, at random: not one comes up in an error, a log or a pickle."""

import logging
import os
import pickle
import random
import traceback
from collections.abc import Awaitable, Callable

import anyio
import httpx
import pytest
import sniffio
from anyio.abc import SocketStream
from canaries import canary, remains, replies
from seeds import fresh_seed
from servers import raw_server

from gatepay_async import AsyncGatePay, RetryPolicy, UploadIncomplete

pytestmark = [pytest.mark.slow, pytest.mark.hang_limit(180), pytest.mark.usefixtures("impatient_uploads")]

SEED = fresh_seed()
# After any other reply a tunnel is there, and the bytes are TLS's.
REFUSALS_OF_A_TUNNEL = ("status line", "reason", "version", "header line", "a redirect", "title with words")
ROUNDS = int(os.environ.get("GATEPAY_TEST_ROUNDS") or 1)  # canaries, each in every place, in every call


def shown(error: BaseException) -> str:
    """All that anybody can see of *error*, and of what hangs on it; the frames of this file left out."""
    told: list[str] = [str(error), repr(error), repr(error.args), repr(vars(error))]
    if not isinstance(error, UploadIncomplete):  # whose report keeps, for the program, the card keys to send again
        told.append(pickle.dumps(error, 0).decode("latin-1"))
    first = traceback.TracebackException.from_exception(error, capture_locals=True)
    left: list[traceback.TracebackException | None] = [first]
    while left:
        each = left.pop()
        if each is not None:
            told += [*each.format_exception_only(), str(each.__notes__)]
            told += [f"{frame.name} {frame.locals}" for frame in each.stack if frame.filename != __file__]
            left += [each.__cause__, each.__context__, *(each.exceptions or ())]
    return "\n".join(told)


def calls(gatepay: AsyncGatePay, secret: str) -> list[Callable[[], Awaitable[object]]]:
    async def walk() -> list[object]:
        return [key async for key in gatepay.list_card_keys(8, prefetch=2)]

    async def upload() -> None:
        report = await gatepay.upload_card_keys(8, [secret])
        assert not remains(secret, repr(report))
        for chunk in report.chunks:
            if chunk.error is not None:
                raise chunk.error
        report.raise_for_failures()

    return [
        gatepay.list_products,
        lambda: gatepay.list_card_keys(8),
        walk,
        lambda: gatepay.create_card_keys(8, ["other", secret]),
        upload,
        lambda: gatepay.create_payment(
            product_id=8, product_num=1, pay_type="alipay", out_order_id="T-1-X", custom="terry"
        ),
    ]


async def plant(rng: random.Random, wrong: list[str], secrets: list[str], *, through_proxy: bool = False) -> int:
    """How many errors came of it; *secrets* are what the replies held."""
    reply, errors = b"", 0

    async def answer(stream: SocketStream, _: int) -> None:
        await stream.send(reply)
        raise ConnectionAbortedError

    async with raw_server(answer) as server:
        proxy = server.base_url.removesuffix("/api/")
        transport = httpx.AsyncHTTPTransport(proxy=proxy) if through_proxy else None
        base_url = "https://gatepay.example/api/" if through_proxy else server.base_url
        async with AsyncGatePay(
            "shop", "secret", base_url=base_url, transport=transport, retry=RetryPolicy(attempts=1)
        ) as gatepay:
            for _ in range(ROUNDS):
                secret = canary(rng)
                secrets.append(secret)
                for place, each in replies(secret):
                    if through_proxy and place not in REFUSALS_OF_A_TUNNEL:
                        continue
                    if place == "coding" and sniffio.current_async_library() == "trio":
                        continue  # httpx leaves a generator half-way
                    reply = each
                    for number, call in enumerate(calls(gatepay, secret)):
                        try:
                            await call()
                        except Exception as error:  # noqa: BLE001 -- whatever it is
                            errors += 1
                            left = remains(secret, shown(error))
                            wrong += [f"{secret!r} in {place!r}, call {number}, {type(error).__name__}: {left}"] * bool(
                                left
                            )
        if transport is not None:
            await transport.aclose()
    return errors


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_canaries(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a reply holds, wherever in it, no error, traceback, pickle or log line repeats it."""
    print(f"GATEPAY_TEST_SEED={SEED}")  # noqa: T201 -- to play it again
    caplog.set_level(logging.DEBUG, logger="gatepay_async")
    wrong: list[str] = []
    secrets: list[str] = []
    rng = random.Random(f"{SEED} {backend}")  # noqa: S311 -- no secret
    errors = anyio.run(plant, rng, wrong, secrets, backend=backend)
    print(backend, f"{errors} errors looked at")  # noqa: T201 -- what was tried
    assert not wrong, "\n".join(wrong)
    assert errors > 150 * ROUNDS
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "OutcomeUnknownError" in logged
    assert [secret for secret in secrets if remains(secret, logged)] == []


def test_canaries_of_a_proxy() -> None:
    """Nor what a proxy says in the place of a tunnel."""
    wrong: list[str] = []

    async def through_proxy() -> int:
        return await plant(random.Random(SEED), wrong, [], through_proxy=True)  # noqa: S311 -- no secret

    print(f"GATEPAY_TEST_SEED={SEED}")  # noqa: T201 -- to play it again
    assert anyio.run(through_proxy) == 6 * len(REFUSALS_OF_A_TUNNEL) * ROUNDS
    assert not wrong, "\n".join(wrong)
