"""The interface of a store, which lets one delivery handle a callback, and records handled callbacks."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from attrs import frozen


class Standing(Enum):
    """The answer to a claim: the state of the callback."""

    MINE = "it is claimed for whoever asked"
    TAKEN = "somebody else is handling it"
    HANDLED = "it was handled before"
    CONFLICT = "its order_id was handled before, with other facts"


@frozen
class Claim:
    """
    One delivery's request to handle a callback.

    Attributes:
        key: Identifies the payment: the shop and its ``order_id``. Each payment is handled once.
        token: Identifies the delivery. Commit and release work only with the token of the current claim, so that a late
            delivery can't change the record of the next one.
        facts: A digest of ``price`` and ``out_order_id``, which must be the same in every delivery of this payment.
        lease: Seconds after which others may claim the callback, in case the process has died.
    """

    key: str
    token: str
    facts: str
    lease: float


class Store(Protocol):
    """
    Records which callbacks were handled. Each method may raise; the answer to GatePay is then ``fail``.

    Attributes:
        keep: For how many seconds at least a handled callback is remembered. None: for ever.
    """

    @property
    def keep(self) -> float | None:
        """Seconds, or None."""
        ...

    async def claim(self, claim: Claim) -> Standing:
        """Claim a callback that is neither handled nor claimed. Only one caller gets it, and none waits for another."""
        ...

    async def commit(self, claim: Claim) -> bool:
        """
        Record permanently that the callback was handled. Doing so twice has no further effect.

        Returns:
            False if another delivery has claimed or handled it meanwhile; then nothing is recorded. If the lease has
            ended but nobody else has claimed it, it is recorded all the same.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Give up the claim, if it is still held. A committed callback stays recorded."""
        ...

    async def aclose(self) -> None:
        """Close files and connections. If the store is used again, it opens them again."""
        ...
