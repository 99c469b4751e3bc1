"""
How many calls an upload sends at once under ``concurrency="auto"``. Pure: times come in.

There is a limit. It changes in steps, and a round measures what a step was worth. A round is a few calls that were
sent while all places were taken: a slow input leaves places free, so that it isn't taken for a slow server. The round
ends when three quarters of its calls are answered, for some calls hang. A server answers ``limit / latency`` calls a
second (Little's law), so the mean latency of a round says how much faster or slower the server works now.

============================================  ========================================================================
What a round, or a reply, shows               What follows
============================================  ========================================================================
a step up brought a third of what was hoped   another step up: twice the limit at first, half as much again later
a step up brought less                        back; the next try comes later each time
429 or 503                                    at once back to before the step, or to half the limit; from then on
                                              steps of an eighth, and rarely one to where it was refused
latency up by half, in two rounds             a step down by a third
a step down cost a third of what was feared   back; the server is slower, but not because of us
a step down cost less                         stay there, and another step down
nothing new                                   after a rest a step up; if it brings too little, next time a step down
============================================  ========================================================================

"Hoped" is as much more throughput as there are more calls in flight. Where a server has a queue, more calls bring
nothing, so the queue stays short. Only 429 and 503 take the limit below where it starts.
"""

from __future__ import annotations

from enum import Enum, auto

from attrs import frozen

START = 4  # the default of a fixed number

_STEP_ROUND, _HOME_ROUND = 4, 16  # calls in a round, at least
_ENOUGH = 24  # calls that it takes to prove that a step was wrong; a few are enough to go on
_REMEMBERED = 96  # calls whose mean latency is compared with
_SHORTEST = 1e-6  # seconds: the clock may not have moved
_WORTH = 1 / 3  # of what was hoped, or feared
_RISEN = 1.5
_DOUBLING, _LATER_STEP, _CAREFUL_STEP = 1.0, 0.5, 0.125  # of the limit
_FIRST_REST, _CAREFUL_REST, _LONGEST_REST = 2, 16, 128  # rounds; each rest is twice as long as the one before


class End(Enum):
    """How an attempt ended."""

    ANSWERED = auto()  # by GatePay, whatever it said
    REFUSED = auto()  # with 429 or 503
    UNANSWERED = auto()  # a time-out is a long latency; a connection that broke at once says nothing
    OTHER = auto()  # says nothing: cancelled, or not GatePay's reply


@frozen
class Attempt:
    """
    An attempt in flight.

    Attributes:
        began: On the caller's clock.
        step: The step that it belongs to; 0: more were in flight than the limit allows.
        round: The round that it counts for; 0: none.
    """

    began: float
    step: int
    round: int


class AutoConcurrency:
    """
    The limit of one upload, or of one worker.

    Args:
        most: The limit never exceeds it.

    Attributes:
        limit: How many attempts may be in flight now.
    """

    def __init__(self, most: int) -> None:
        self.limit = min(START, most)
        self._most = most
        self._in_flight = 0
        # Home is the limit before the step that is being tried; without one, the limit itself.
        self._home = self.limit
        self._latency = 0.0  # mean, at home
        self._weight = 0  # of how many calls
        self._stride = _DOUBLING
        self._refused_at = most + 1  # the limit that met 429 or 503
        self._rest = 0  # rounds until the next step
        self._next_rest = _FIRST_REST
        self._tries_down = False
        self._has_risen = False
        self._step = self._round = 0
        self._go_to(self.limit)

    def began(self, now: float) -> Attempt:
        """An attempt begins."""
        self._in_flight += 1
        if self._in_flight > self.limit:
            return Attempt(now, step=0, round=0)
        if not self._to_begin or not self._is_full():
            return Attempt(now, self._step, round=0)
        self._to_begin -= 1
        return Attempt(now, self._step, self._round)

    def ended(self, attempt: Attempt, end: End, now: float) -> None:
        """*attempt* has ended."""
        self._in_flight -= 1
        if end is End.REFUSED:
            if attempt.step == self._step:  # others were sent before the last one of these lowered the limit
                self._refused()
            return
        if attempt.round != self._round:
            return
        latency = max(_SHORTEST, now - attempt.began)
        if end is End.OTHER or (end is End.UNANSWERED and not latency > self._latency > 0):
            self._to_begin += 1
            return
        self._count += 1
        self._seconds += latency
        self._to_end -= 1
        if not self._to_end:
            self._judge_round(self._seconds / self._count)

    # --- What a round shows ------------------------------------------------------------------------------------

    def _judge_round(self, latency: float) -> None:
        if self.limit == self._home:
            self._judge_home(latency)
            return
        step = self.limit / self._home
        change = step * self._latency / latency  # of the throughput
        counts = (change - 1) / (step - 1) >= _WORTH
        if self.limit > self._home and counts:
            self._stay_up()
        elif self._count < _ENOUGH:
            self._next_round()
        elif self.limit < self._home and not counts:
            self._settle(latency)
            self._next_rest = _FIRST_REST
            self._step_down()
        else:
            self._go_back()

    def _stay_up(self) -> None:
        self._pool()
        self._home = self.limit
        self._next_rest = _FIRST_REST
        if self._home >= self._refused_at:
            self._refused_at = self._most + 1
        if self._refused_at > self._most:
            self._stride = min(_DOUBLING, self._stride * 2)
        self._step_up()

    def _go_back(self) -> None:
        if self._weight >= _ENOUGH:  # else it may be home that was measured badly
            self._tries_down = self.limit > self._home > START
            self._stride = min(self._stride, _LATER_STEP)
            self._rest_longer()
        self._go_to(self._home)

    def _judge_home(self, latency: float) -> None:
        if self._weight and latency > _RISEN * self._latency:
            self._judge_risen(latency)
            return
        self._has_risen = False
        if not self._weight:
            self._settle(latency)
        elif latency * _RISEN < self._latency:
            self._settle(latency)
            self._rest, self._next_rest = min(self._rest, _FIRST_REST), _FIRST_REST
        else:
            self._pool()
        self._rest = max(0, self._rest - 1)
        if self._rest:
            self._go_to(self._home)
        elif self._tries_down:
            self._step_down()
        else:
            self._step_up()

    def _judge_risen(self, latency: float) -> None:
        self._has_risen = not self._has_risen
        if self._has_risen:  # once may be chance
            self._go_to(self._home)
            return
        self._settle(latency)
        self._next_rest = _FIRST_REST
        self._step_down()

    def _refused(self) -> None:
        self._refused_at = max(2, self.limit)
        if self.limit <= self._home:
            self._home = max(1, self.limit // 2)
            self._weight = 0
        self._stride = _CAREFUL_STEP
        self._tries_down = self._has_risen = False
        self._rest = 0
        if self._home + 1 >= self._refused_at:
            self._next_rest = max(_CAREFUL_REST, self._next_rest)
            self._rest_longer()
        self._go_to(self._home)

    # --- Steps -------------------------------------------------------------------------------------------------

    def _step_up(self) -> None:
        limit = min(self._most, self._home + max(1, int(self._home * self._stride)))
        if self._home + 1 < self._refused_at:
            limit = min(limit, self._refused_at - 1)
        self._try(limit)

    def _step_down(self) -> None:
        self._try(max(min(START, self._home), self._home * 2 // 3))

    def _try(self, limit: int) -> None:
        if limit == self._home:
            self._tries_down = not self._tries_down and self._home > START
            self._rest_longer()
        self._go_to(limit)

    def _rest_longer(self) -> None:
        self._rest = self._next_rest
        self._next_rest = min(_LONGEST_REST, self._next_rest * 2)

    def _is_full(self) -> bool:
        if self.limit > self._home:
            return self._in_flight > self._home
        # Not quite all: a call that waits for its next attempt keeps its place. At the very start any tells something.
        return not self._weight or self._in_flight * 4 >= self.limit * 3

    # --- Rounds ------------------------------------------------------------------------------------------------

    def _go_to(self, limit: int) -> None:
        self.limit = limit
        self._step += 1
        self._count, self._seconds = 0, 0.0
        self._next_round()

    def _next_round(self) -> None:
        self._round += 1
        if self.limit == self._home and self._weight:
            self._to_begin = max(_HOME_ROUND, self.limit)
        else:
            self._to_begin = max(_STEP_ROUND, self.limit // 2)
        self._to_end = self._to_begin * 3 // 4

    def _settle(self, latency: float) -> None:
        self._home, self._latency, self._weight = self.limit, latency, self._count

    def _pool(self) -> None:
        weight = self._weight + self._count
        self._latency = (self._latency * self._weight + self._seconds) / weight
        self._weight = min(_REMEMBERED, weight)
