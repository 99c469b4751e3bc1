"""
How many calls an upload sends at once under ``concurrency="auto"``. No I/O and no clock: the caller passes the time.

The limit changes in steps, and a round measures the effect of a step. A round is a few calls that were sent while the
limit was reached. (A slow input doesn't reach the limit. Its calls don't count, so that a slow input isn't mistaken for
a slow server.) The round ends when three quarters of its calls are answered, because some calls may hang. A server
handles ``limit / latency`` calls a second (Little's law), so the mean latency of a round shows how much the throughput
has changed.

============================================  ========================================================================
What happens                                  What we do next
============================================  ========================================================================
a step up gained at least a third of the      step up again: by the whole limit at first, later by half of it
expected throughput
a step up gained less                         go back; wait longer each time before the next step up
429 or 503                                    undo a step up, otherwise halve the limit; from then on, take steps of an
                                              eighth, and rarely try the refused limit again
latency up by half, in two rounds             step down by a third
a step down lost at least a third of the      go back; the server has slowed down, but not because of us
expected throughput
a step down lost less                         stay there, then step down again
nothing new                                   after a rest, step up; if that gains too little, step down the next time
============================================  ========================================================================

"Expected" means in proportion to the calls in flight. If a server queues calls, more calls gain nothing, so the queue
stays short. Only 429 and 503 take the limit below its initial value.
"""

from __future__ import annotations

from enum import Enum, auto

from attrs import frozen

INITIAL_LIMIT = 4  # calls in flight; the same as the default of a fixed concurrency

# The fewest calls of a round: in a step, and at home (see AutoConcurrency).
_MIN_STEP_CALLS, _MIN_HOME_CALLS = 4, 16
_MIN_EVIDENCE_CALLS = 24  # calls that are needed to undo a step; fewer are enough to step up again
_MAX_AVERAGED_CALLS = 96  # the largest weight of earlier calls in the mean latency at home
_MIN_LATENCY_S = 1e-6  # avoids a division by zero if the clock hasn't moved
_MIN_EFFECT = 1 / 3  # a step is effective if the throughput changes by at least this share of what is expected
_CHANGE_FACTOR = 1.5  # a latency that has risen or fallen by this factor has changed
_DOUBLING, _LATER_STEP, _CAREFUL_STEP = 1.0, 0.5, 0.125  # sizes of a step up, as shares of the limit
# Rounds between two steps. Each rest is twice as long as the one before.
_FIRST_REST, _CAREFUL_REST, _LONGEST_REST = 2, 16, 128


class AttemptEnd(Enum):
    """How an attempt ended."""

    ANSWERED = auto()  # by GatePay, with any code
    REFUSED = auto()  # with 429 or 503
    UNANSWERED = auto()  # a time-out counts as a long latency; a connection that broke at once doesn't count
    OTHER = auto()  # doesn't count: the attempt was cancelled, or the reply didn't come from GatePay


@frozen
class Attempt:
    """
    An attempt in flight.

    Attributes:
        began_at: When it began, on the caller's clock.
        step: The step that it belongs to, or 0 if more attempts were in flight than the limit allows.
        round: The round that it counts for, or 0 if it doesn't count.
    """

    began_at: float
    step: int
    round: int


class AutoConcurrency:
    """
    The limit of one upload, or of one worker.

    Args:
        maximum: The highest limit.

    Attributes:
        limit: How many attempts may be in flight now.
    """

    def __init__(self, maximum: int) -> None:
        self.limit = min(INITIAL_LIMIT, maximum)
        self._maximum = maximum
        self._in_flight = 0
        # "Home" is the limit before the step that is being tried. While no step is tried, it is the limit.
        self._home = self.limit
        self._home_latency = 0.0  # the mean latency at home, in seconds
        self._home_weight = 0  # the number of calls in this mean
        self._step_up_share = _DOUBLING  # the size of the next step up, as a share of the limit
        self._refused_at = maximum + 1  # the limit at which GatePay last replied 429 or 503
        self._rounds_until_step = 0
        self._next_rest_rounds = _FIRST_REST  # the rounds of the next rest
        self._next_step_is_down = False
        self._has_risen = False  # the latency was higher in the latest round
        self._step = self._round = 0  # the numbers of the current step and round
        self._go_to(self.limit)

    def record_begin(self, now: float) -> Attempt:
        """Record that an attempt begins."""
        self._in_flight += 1
        if self._in_flight > self.limit:
            return Attempt(now, step=0, round=0)
        if not self._calls_to_begin or not self._is_limit_reached():
            return Attempt(now, self._step, round=0)
        self._calls_to_begin -= 1
        return Attempt(now, self._step, self._round)

    def record_end(self, attempt: Attempt, end: AttemptEnd, now: float) -> None:
        """Record that *attempt* has ended."""
        self._in_flight -= 1
        if end is AttemptEnd.REFUSED:
            if attempt.step == self._step:  # attempts of earlier steps were sent before the limit was lowered
                self._lower_after_refusal()
            return
        if attempt.round != self._round:
            return
        latency = max(_MIN_LATENCY_S, now - attempt.began_at)
        if end is AttemptEnd.OTHER or (end is AttemptEnd.UNANSWERED and not latency > self._home_latency > 0):
            self._calls_to_begin += 1
            return
        self._measured_calls += 1
        self._measured_seconds += latency
        self._calls_to_end -= 1
        if not self._calls_to_end:
            self._judge_round(self._measured_seconds / self._measured_calls)

    # --- What a round shows ------------------------------------------------------------------------------------

    def _judge_round(self, latency: float) -> None:
        """Decide how to continue after a round, whose mean latency is *latency*."""
        if self.limit == self._home:
            self._judge_home(latency)
            return
        step = self.limit / self._home
        change = step * self._home_latency / latency  # of the throughput
        is_effective = (change - 1) / (step - 1) >= _MIN_EFFECT
        if self.limit > self._home and is_effective:
            self._accept_step_up()
        elif self._measured_calls < _MIN_EVIDENCE_CALLS:
            self._next_round()
        elif self.limit < self._home and not is_effective:
            self._make_home(latency)
            self._next_rest_rounds = _FIRST_REST
            self._step_down()
        else:
            self._go_back()

    def _accept_step_up(self) -> None:
        """Make the higher limit the new home, and step up again."""
        self._add_to_average()
        self._home = self.limit
        self._next_rest_rounds = _FIRST_REST
        if self._home >= self._refused_at:  # GatePay now accepts as many calls as it refused before
            self._refused_at = self._maximum + 1
        if self._refused_at > self._maximum:
            self._step_up_share = min(_DOUBLING, self._step_up_share * 2)
        self._step_up()

    def _go_back(self) -> None:
        """Give up the step that is being tried."""
        if self._home_weight >= _MIN_EVIDENCE_CALLS:  # with fewer calls, the latency at home may be wrong
            self._next_step_is_down = self.limit > self._home > INITIAL_LIMIT
            self._step_up_share = min(self._step_up_share, _LATER_STEP)
            self._rest_longer()
        self._go_to(self._home)

    def _judge_home(self, latency: float) -> None:
        """Decide how to continue after a round at home."""
        if self._home_weight and latency > _CHANGE_FACTOR * self._home_latency:
            self._judge_risen(latency)
            return
        self._has_risen = False
        if not self._home_weight:
            self._make_home(latency)
        elif latency * _CHANGE_FACTOR < self._home_latency:
            self._make_home(latency)
            self._rounds_until_step, self._next_rest_rounds = min(self._rounds_until_step, _FIRST_REST), _FIRST_REST
        else:
            self._add_to_average()
        self._rounds_until_step = max(0, self._rounds_until_step - 1)
        if self._rounds_until_step:
            self._go_to(self._home)
        elif self._next_step_is_down:
            self._step_down()
        else:
            self._step_up()

    def _judge_risen(self, latency: float) -> None:
        """Step down if the latency was higher in two rounds in a row."""
        self._has_risen = not self._has_risen
        if self._has_risen:  # wait for a second round: one may be an outlier
            self._go_to(self._home)
            return
        self._make_home(latency)
        self._next_rest_rounds = _FIRST_REST
        self._step_down()

    def _lower_after_refusal(self) -> None:
        """Lower the limit after a 429 or 503."""
        self._refused_at = max(2, self.limit)
        if self.limit <= self._home:
            self._home = max(1, self.limit // 2)
            self._home_weight = 0
        self._step_up_share = _CAREFUL_STEP
        self._next_step_is_down = self._has_risen = False
        self._rounds_until_step = 0
        if self._home + 1 >= self._refused_at:  # the next step up would try the refused limit again
            self._next_rest_rounds = max(_CAREFUL_REST, self._next_rest_rounds)
            self._rest_longer()
        self._go_to(self._home)

    # --- Steps -------------------------------------------------------------------------------------------------

    def _step_up(self) -> None:
        """Try a higher limit. Stay below the refused limit, unless the home is just below it already."""
        limit = min(self._maximum, self._home + max(1, int(self._home * self._step_up_share)))
        if self._home + 1 < self._refused_at:
            limit = min(limit, self._refused_at - 1)
        self._try_limit(limit)

    def _step_down(self) -> None:
        """Try a limit that is a third lower, but not below the initial one."""
        self._try_limit(max(min(INITIAL_LIMIT, self._home), self._home * 2 // 3))

    def _try_limit(self, limit: int) -> None:
        """Begin a step to *limit*. If that is no change, rest and try the other direction."""
        if limit == self._home:
            self._next_step_is_down = not self._next_step_is_down and self._home > INITIAL_LIMIT
            self._rest_longer()
        self._go_to(limit)

    def _rest_longer(self) -> None:
        """Rest before the next step, and twice as long the next time."""
        self._rounds_until_step = self._next_rest_rounds
        self._next_rest_rounds = min(_LONGEST_REST, self._next_rest_rounds * 2)

    def _is_limit_reached(self) -> bool:
        """Whether so many calls are in flight that a further one shows the effect of the limit."""
        if self.limit > self._home:
            return self._in_flight > self._home
        # Three quarters are enough: a call that waits for a retry counts towards the limit, but isn't in flight. At the
        # start, any call counts.
        return not self._home_weight or self._in_flight * 4 >= self.limit * 3

    # --- Rounds ------------------------------------------------------------------------------------------------

    def _go_to(self, limit: int) -> None:
        """Set the limit, and begin to measure its effect."""
        self.limit = limit
        self._step += 1
        self._measured_calls, self._measured_seconds = 0, 0.0  # the calls of this step, and the sum of their latencies
        self._next_round()

    def _next_round(self) -> None:
        """Begin a round, and choose the number of its calls."""
        self._round += 1
        if self.limit == self._home and self._home_weight:
            self._calls_to_begin = max(_MIN_HOME_CALLS, self.limit)
        else:
            self._calls_to_begin = max(_MIN_STEP_CALLS, self.limit // 2)
        self._calls_to_end = self._calls_to_begin * 3 // 4

    def _make_home(self, latency: float) -> None:
        """Make the current limit the home, with *latency* as its mean."""
        self._home, self._home_latency, self._home_weight = self.limit, latency, self._measured_calls

    def _add_to_average(self) -> None:
        """Add the calls measured so far to the mean latency at home."""
        weight = self._home_weight + self._measured_calls
        self._home_latency = (self._home_latency * self._home_weight + self._measured_seconds) / weight
        self._home_weight = min(_MAX_AVERAGED_CALLS, weight)
