"""What ``CallbackApp`` asks of a store: who may handle a callback, and whether it was handled."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from attrs import frozen


class Standing(Enum):
    """How a callback stands when somebody asks to handle it."""

    MINE = "it is claimed for whoever asked"
    TAKEN = "somebody else is handling it"
    HANDLED = "it was handled before"
    CONFLICT = "its order_id was handled before, with other facts"


@frozen
class Claim:
    """
    One delivery's wish to handle a callback.

    Attributes:
        key: Which payment: the shop and its ``order_id``. Handled once.
        token: Which delivery, another one each time: only its holder commits and releases, so that one who
            comes too late can't undo what the next one did.
        facts: A digest of what a repetition must agree in.
        lease: Seconds after which the claim is anybody's again: for a process that died.
    """

    key: str
    token: str
    facts: str
    lease: float


class Store(Protocol):
    """
    Where it is written down which callbacks were handled. Each method may raise: the answer is ``fail`` then.

    Attributes:
        keep: Seconds for which a handled callback is remembered at least; None: for ever.
    """

    @property
    def keep(self) -> float | None:
        """Seconds, or None."""
        ...

    async def claim(self, claim: Claim) -> Standing:
        """Claim a callback that nobody has handled and nobody holds, at once and for one alone; don't wait."""
        ...

    async def commit(self, claim: Claim) -> bool:
        """
        Write down, for good, that it was handled; twice is once.

        Returns:
            False: it is another's by then, or handled by another; nothing is written. A claim that ended and that
            nobody has taken up is written all the same.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Let go of the claim, if it is still held; never of one that was committed."""
        ...

    async def aclose(self) -> None:
        """Give back what is open; a store that is used again opens it again."""
        ...
