"""Order numbers are unique and ascending, also with threads, forks and clocks that go back."""

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


def test_order_number_starts_and_ends_with_a_letter() -> None:
    """An order number has 28 capital letters and digits, which need no escaping in a URL."""
    for _ in range(1000):
        assert re.fullmatch(r"T[0-9A-HJKMNP-TV-Z]{26}X", new_out_order_id())


def test_order_number_is_accepted_by_create_payment() -> None:
    """A new order number passes the checks of the call."""
    PayCreate(product_id=8, product_num=1, pay_type="alipay", out_order_id=new_out_order_id(), custom="c")


def test_order_numbers_are_unique_and_ascending() -> None:
    """Order numbers are unique and ascending, although many are created in the same millisecond."""
    numbers = [new_out_order_id() for _ in range(20_000)]
    assert sorted(numbers) == numbers
    assert len(set(numbers)) == len(numbers)


def test_order_numbers_of_different_processes_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number created a millisecond later sorts after the earlier one, even if it comes from another process."""
    numbers = []
    for millisecond in (1, 2, 1_555_750_250_000, 1_555_750_250_001, 2**48 - 1):
        monkeypatch.setattr(order_ids, "_sequence", order_ids._Sequence())
        monkeypatch.setattr(time, "time_ns", lambda at=millisecond: at * 1_000_000 + 999_999)
        numbers.append(new_out_order_id())
    assert sorted(numbers) == numbers
    assert [number[1:11] for number in numbers[:2]] == ["0000000001", "0000000002"]
    assert numbers[-1].startswith("T7ZZZZZZZZZ")


def test_order_numbers_are_unique_and_ascending_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order numbers stay unique and ascending if the clock is set back and then stands still."""
    first = new_out_order_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    numbers = [first, *(new_out_order_id() for _ in range(1000))]
    assert sorted(set(numbers)) == numbers


def test_threads_get_different_order_numbers() -> None:
    """The order numbers of all threads differ, and those of each thread are ascending."""
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda _: [new_out_order_id() for _ in range(2000)], range(8)))
    assert all(sorted(of_a_thread) == of_a_thread for of_a_thread in numbers)
    assert len({number for of_a_thread in numbers for number in of_a_thread}) == 16_000


FORK = """
import os, time
from gatepay_async import new_out_order_id, order_ids
time.time_ns = lambda: 1555750250 * 10**9  # the clock stands still, so only the random part can differ
new_out_order_id()
order_ids._sequence._lock.acquire()  # like another thread that is creating a number during the fork
read, write = os.pipe()
if not os.fork():
    os.write(write, new_out_order_id().encode())
    os._exit(0)
os.wait()
order_ids._sequence._lock.release()
child = os.read(read, 100).decode()
parent = new_out_order_id()
assert parent[:11] == child[:11] and parent[11:17] != child[11:17], (parent, child)
print("different")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_process_gets_other_order_numbers() -> None:
    """The parent and the child get different numbers, even if another thread held the lock during the fork."""
    result = run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.returncode) == ("different\n", 0), result.stderr


def test_restart_after_a_fork_replaces_the_lock_and_the_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock may be held by a thread that doesn't exist in the forked process."""
    sequence = order_ids._Sequence()
    monkeypatch.setattr(order_ids, "_sequence", sequence)
    with sequence._lock:
        order_ids._restart_sequence()
        assert new_out_order_id()
    assert order_ids._sequence is not sequence


def test_moved_digits_of_a_callback_never_match_the_order() -> None:
    """If digits are moved between fields, the callback has another order number or is malformed."""
    shop = Credentials("gp-key", "gp-secret")
    number = new_out_order_id()
    fields = {
        "appkey": "gp-key", "order_id": "6784", "out_order_id": number, "price": "12.00", "realprice": "12.00",
        "type": "alipay", "paytime": "1555750250", "extend": "",
    }  # fmt: skip
    fields["sign"] = sign(shop, [fields[name] for name in SIGNED])
    text = "6784" + number + "12.00"
    accepted = set()
    for first_cut in range(len(text)):
        for second_cut in range(first_cut, len(text)):
            forged = {
                **fields,
                "order_id": text[:first_cut],
                "out_order_id": text[first_cut:second_cut],
                "price": text[second_cut:],
            }
            try:
                callback = parse_callback(
                    "&".join(f"{name}={value}" for name, value in forged.items()),
                    appkey="gp-key",
                    appsecret="gp-secret",
                )
            except MalformedCallbackError:
                continue
            accepted.add((callback.order_id, callback.out_order_id, callback.price))
    with_this_number = {values for values in accepted if values[1] == number}
    assert with_this_number == {(6784, number, Decimal("12.00"))}
    assert len(accepted) > 1  # forgeries with other order numbers are accepted
