"""Plants random card keys in every part of replies: none appears in an error, a log line or a pickle."""

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
from canaries import canary, find_traces, replies
from seeds import fresh_seed
from servers import raw_server

from gatepay_async import AsyncGatePay, RetryPolicy, UploadIncomplete

pytestmark = [pytest.mark.slow, pytest.mark.hang_limit(180), pytest.mark.usefixtures("impatient_uploads")]

SEED = fresh_seed()
# Replies with which a proxy refuses the tunnel. After any other reply the client starts TLS.
PROXY_REFUSALS = ("status line", "reason", "version", "header line", "a redirect", "title with words")
ROUNDS = int(os.environ.get("GATEPAY_TEST_ROUNDS") or 1)  # how many canaries are tried in every place and every call


def all_texts_of(error: BaseException) -> str:
    """Return every text of *error* and its chain, with the local variables of all frames outside of this file."""
    texts: list[str] = [str(error), repr(error), repr(error.args), repr(vars(error))]
    if not isinstance(error, UploadIncomplete):  # its report contains the card keys that were not stored
        texts.append(pickle.dumps(error, 0).decode("latin-1"))
    first = traceback.TracebackException.from_exception(error, capture_locals=True)
    pending: list[traceback.TracebackException | None] = [first]
    while pending:
        exception = pending.pop()
        if exception is not None:
            texts += [*exception.format_exception_only(), str(exception.__notes__)]
            texts += [f"{frame.name} {frame.locals}" for frame in exception.stack if frame.filename != __file__]
            pending += [exception.__cause__, exception.__context__, *(exception.exceptions or ())]
    return "\n".join(texts)


def calls(gatepay: AsyncGatePay, secret: str) -> list[Callable[[], Awaitable[object]]]:
    """Return every call of the client, each with *secret* in its arguments where possible."""

    async def walk() -> list[object]:
        return [key async for key in gatepay.list_card_keys(8, prefetch=2)]

    async def upload() -> None:
        report = await gatepay.upload_card_keys(8, [secret])
        assert not find_traces(secret, repr(report))
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


async def count_errors(rng: random.Random, leaks: list[str], secrets: list[str], *, through_proxy: bool = False) -> int:
    """
    Make all calls against all replies with planted secrets. Return the number of errors.

    Add the secrets to *secrets*, and a line for each error that contains a part of one to *leaks*.
    """
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
                for place, next_reply in replies(secret):
                    if through_proxy and place not in PROXY_REFUSALS:
                        continue
                    if place == "coding" and sniffio.current_async_library() == "trio":
                        continue  # httpx doesn't close a generator, and trio warns about it
                    reply = next_reply
                    for number, call in enumerate(calls(gatepay, secret)):
                        try:
                            await call()
                        except Exception as error:  # noqa: BLE001 -- any error must not leak
                            errors += 1
                            traces = find_traces(secret, all_texts_of(error))
                            if traces:
                                leaks.append(
                                    f"{secret!r} in {place!r}, call {number}, {type(error).__name__}: {traces}"
                                )
        if transport is not None:
            await transport.aclose()
    return errors


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_secret_of_a_reply_leaks(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """A secret in any part of a reply appears in no error, traceback, pickle or log line."""
    print(f"GATEPAY_TEST_SEED={SEED}")  # noqa: T201 -- to repeat the run
    caplog.set_level(logging.DEBUG, logger="gatepay_async")
    leaks: list[str] = []
    secrets: list[str] = []
    rng = random.Random(f"{SEED} {backend}")  # noqa: S311 -- no secret
    errors = anyio.run(count_errors, rng, leaks, secrets, backend=backend)
    print(backend, f"{errors} errors looked at")  # noqa: T201 -- shows how much was tested
    assert not leaks, "\n".join(leaks)
    assert errors > 150 * ROUNDS
    logged = "\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    assert "OutcomeUnknownError" in logged
    assert [secret for secret in secrets if find_traces(secret, logged)] == []


def test_no_secret_of_a_proxys_reply_leaks() -> None:
    """A secret in the reply of a proxy that refuses the tunnel appears in no error."""
    leaks: list[str] = []

    async def through_proxy() -> int:
        return await count_errors(random.Random(SEED), leaks, [], through_proxy=True)  # noqa: S311 -- no secret

    print(f"GATEPAY_TEST_SEED={SEED}")  # noqa: T201 -- to repeat the run
    assert anyio.run(through_proxy) == 6 * len(PROXY_REFUSALS) * ROUNDS  # each of the six calls() fails
    assert not leaks, "\n".join(leaks)
