"""Order numbers: unique, sorted, safe at both ends; over threads, forks and clocks that go back."""

import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from subprocess import run

import pytest

from gatepay_async import new_out_order_id, order_ids, parse_callback
from gatepay_async.protocol.callback import SIGNED
from gatepay_async.protocol.callback_errors import MalformedCallbackError
from gatepay_async.protocol.calls import PayCreate
from gatepay_async.protocol.signing import Credentials, sign

pytestmark = pytest.mark.fast


def test_form() -> None:
    """28 capital letters and digits, the first and the last a letter, none of them in need of escapes."""
    for _ in range(1000):
        assert re.fullmatch(r"T[0-9A-HJKMNP-TV-Z]{26}X", new_out_order_id())


def test_it_is_an_order_number() -> None:
    """GatePay's order takes it."""
    PayCreate(product_id=8, product_num=1, pay_type="alipay", out_order_id=new_out_order_id(), custom="c")


def test_unique_and_in_order() -> None:
    """One after the other, many to a millisecond, each is new and sorts behind the one before."""
    numbers = [new_out_order_id() for _ in range(20_000)]
    assert sorted(numbers) == numbers
    assert len(set(numbers)) == len(numbers)


def test_in_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made a millisecond later, by whatever process, sorts behind."""
    numbers = []
    for millisecond in (1, 2, 1_555_750_250_000, 1_555_750_250_001, 2**48 - 1):
        monkeypatch.setattr(order_ids, "_sequence", order_ids._Sequence())
        monkeypatch.setattr(time, "time_ns", lambda at=millisecond: at * 1_000_000 + 999_999)
        numbers.append(new_out_order_id())
    assert sorted(numbers) == numbers
    assert [number[1:11] for number in numbers[:2]] == ["0000000001", "0000000002"]
    assert numbers[-1].startswith("T7ZZZZZZZZZ")


def test_a_clock_that_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is set back, or stands still, brings neither repetition nor disorder."""
    first = new_out_order_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    numbers = [first, *(new_out_order_id() for _ in range(1000))]
    assert sorted(set(numbers)) == numbers


def test_threads() -> None:
    """Threads don't get the same one."""
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: [new_out_order_id() for _ in range(2000)], range(8)))
    assert all(sorted(each) == each for each in numbers)
    assert len({number for each in numbers for number in each}) == 16_000


FORK = """
import os, time
from gatepay_async import new_out_order_id, order_ids
time.time_ns = lambda: 1555750250 * 10**9  # the clock stands still: only chance tells the two apart
new_out_order_id()
order_ids._sequence._lock.acquire()  # as if another thread were at it while we fork
read, write = os.pipe()
if not os.fork():
    os.write(write, new_out_order_id().encode())
    os._exit(0)
os.wait()
order_ids._sequence._lock.release()
theirs = os.read(read, 100).decode()
ours = new_out_order_id()
assert ours[:11] == theirs[:11] and ours[11:17] != theirs[11:17], (ours, theirs)
print("apart")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forks() -> None:
    """A process that was forked goes on from numbers of its own, also if a thread held the lock at that moment."""
    done = run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("apart\n", 0), done.stderr


def test_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a fork calls leaves the lock of the other side alone, and its number too."""
    held = order_ids._Sequence()
    monkeypatch.setattr(order_ids, "_sequence", held)
    with held._lock:
        order_ids._restart_sequence()
        assert new_out_order_id()
    assert order_ids._sequence is not held


def test_digits_cannot_slide() -> None:
    """Whoever moves the borders of a callback for such an order finds no other one that is in form and the order's."""
    shop = Credentials("gp-key", "gp-secret")
    number = new_out_order_id()
    fields = {
        "appkey": "gp-key", "order_id": "6784", "out_order_id": number, "price": "12.00", "realprice": "12.00",
        "type": "alipay", "paytime": "1555750250", "extend": "",
    }  # fmt: skip
    fields["sign"] = sign(shop, [fields[name] for name in SIGNED])
    text = "6784" + number + "12.00"
    believed = set()
    for one in range(len(text)):
        for two in range(one, len(text)):
            slid = {**fields, "order_id": text[:one], "out_order_id": text[one:two], "price": text[two:]}
            try:
                callback = parse_callback(
                    "&".join(f"{name}={value}" for name, value in slid.items()), appkey="gp-key", appsecret="gp-secret"
                )
            except MalformedCallbackError:
                continue
            believed.add((callback.order_id, callback.out_order_id, callback.price))
    of_the_order = {each for each in believed if each[1] == number}
    assert of_the_order == {(6784, number, Decimal("12.00"))}
    assert len(believed) > 1
