"""
Faults on request: what may go wrong between two ends, and when it does.

Here is the deciding; the doing is in :mod:`gatepay_async.sandbox.fault_injection`.
"""

from enum import StrEnum
from random import Random
from threading import Lock

from attrs import define, field, frozen

__all__ = ["ArmedFault", "Fault", "FaultKind", "FaultQueue"]


class FaultKind(StrEnum):
    """What goes wrong, and whether the call was carried out by then."""

    CUT_BEFORE = "cut_before"
    """The connection dies: nothing carried out, no byte answered."""
    CUT_AFTER = "cut_after"
    """The connection dies: carried out and stored, no byte answered."""
    HALF_BODY = "half_body"
    """Carried out; the connection ends after half of the JSON."""
    HALF_JSON = "half_json"
    """Carried out; a complete HTTP reply whose JSON is cut in half."""
    SLOW = "slow"
    """Carried out; the answer comes after ``seconds``."""
    DRIP = "drip"
    """Carried out; the answer's body comes one byte every ``seconds``."""
    RATE_LIMITED = "rate_limited"
    """HTTP 429 with ``Retry-After``; nothing carried out."""
    BAD_GATEWAY = "bad_gateway"
    """HTTP 502 with an HTML page; nothing carried out."""
    CODE = "code"
    """The refusal ``code`` with the endpoint's text; nothing carried out."""


@frozen
class Fault:
    """
    One fault to come.

    Args:
        kind: What goes wrong.
        endpoint: Where, such as ``ka/create``; None: anywhere.
        times: How often; None: always.
        probability: How likely, at each request that matches, from 0 to 1.
        seed: What the likelihood is drawn from; the same seed draws the same.
        skip: How many matching requests pass first.
        seconds: For SLOW and DRIP.
        retry_after: For RATE_LIMITED: the header's text, or seconds.
        code: For CODE, which needs it.

    Raises:
        ValueError: The kind is not one, or CODE comes without a code.
    """

    kind: FaultKind = field(converter=FaultKind)
    endpoint: str | None = field(default=None, kw_only=True)
    times: int | None = field(default=1, kw_only=True)
    probability: float = field(default=1.0, kw_only=True)
    seed: int = field(default=0, kw_only=True)
    skip: int = field(default=0, kw_only=True)
    seconds: float = field(default=1.0, kw_only=True)
    retry_after: int | str = field(default=1, kw_only=True)
    code: int = field(default=0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.kind is FaultKind.CODE and not self.code:
            raise ValueError("Fault(FaultKind.CODE) needs code=…, the number to refuse with")


@frozen
class ArmedFault:
    """
    A fault that is there.

    Attributes:
        number: Its own, from 1, in the order added.
        applied: How often it has hit.
    """

    number: int
    fault: Fault
    applied: int


@define
class _Armed:
    """A fault with what has happened to it so far."""

    number: int
    fault: Fault
    random: Random
    passed: int = 0
    applied: int = 0

    def strikes(self, endpoint: str) -> bool:
        """Say whether the fault hits this request, and count that."""
        if self.fault.endpoint not in (None, endpoint) or self.applied == self.fault.times:
            return False
        self.passed += 1
        if self.passed <= self.fault.skip or self.random.random() >= self.fault.probability:
            return False
        self.applied += 1
        return True


class FaultQueue:
    """The faults to come, in the order added; safe from any thread."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._armed: list[_Armed] = []
        self._added = 0

    def add(self, fault: Fault) -> None:
        """Put *fault* behind the others."""
        # Repeatable on purpose; nothing secret hangs on it.
        random = Random(fault.seed)  # noqa: S311 -- a draw that repeats is what is wanted
        with self._lock:
            self._added += 1
            self._armed.append(_Armed(self._added, fault, random))

    def read(self) -> list[ArmedFault]:
        """Give the faults that are there, used up or not, in the order added."""
        with self._lock:
            return [ArmedFault(armed.number, armed.fault, armed.applied) for armed in self._armed]

    def remove(self, number: int) -> None:
        """Forget the fault with that number, if it is there."""
        with self._lock:
            self._armed = [armed for armed in self._armed if armed.number != number]

    def clear(self) -> None:
        """Forget all faults, used up or not."""
        with self._lock:
            self._armed.clear()

    def pick(self, endpoint: str) -> Fault | None:
        """Give the first fault that hits a request to *endpoint*, or None; each fault asked counts it."""
        with self._lock:
            return next((armed.fault for armed in self._armed if armed.strikes(endpoint)), None)
