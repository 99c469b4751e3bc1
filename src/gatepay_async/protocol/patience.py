"""How long an upload waits for an unavailable server."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Patience:
    """
    When the server counts as unavailable. Both conditions must be met: the time and the number of attempts.

    ``progress`` says what a clear reply is.

    Attributes:
        seconds: The time without a clear reply since the beginning of the first failed call.
        seconds_before_first_reply: Replaces ``seconds`` before the first clear reply.
        attempts: The number of failed attempts in a row.
        attempts_before_first_reply: Replaces ``attempts`` before the first clear reply. Three are enough for a part and
            both of its halves: if a single card key makes the server fail, one of the halves succeeds.
        first_wait: Seconds before the same card keys are sent again. Each round of failed calls doubles the wait.
        longest_wait: The upper limit of that wait, in seconds.
        retry_after_limit: The longest time, in seconds, for which a ``Retry-After`` stops all sending.
        waits: Whether parts wait for an unavailable server. If not, each part gets its outcome at its first failure, or
            after a second call that can show whether its card keys are at fault. A later run sends the parts again
            whose card keys are not at fault.
    """

    seconds: float = 20.0
    seconds_before_first_reply: float = 5.0
    attempts: int = 2
    attempts_before_first_reply: int = 3
    first_wait: float = 0.25
    longest_wait: float = 4.0
    retry_after_limit: float = 60.0
    waits: bool = True
