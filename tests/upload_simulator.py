"""Simulates uploads without sockets: a client with a limit, a configurable server, and virtual time."""

import heapq
import itertools
import random
from collections.abc import Callable
from typing import Any

from attrs import define, field

from gatepay_async.protocol.auto_concurrency import Attempt, AttemptEnd, AutoConcurrency

CLIENT_CPU_S = 0.0004  # CPU time of a call in the client, which sends calls one after the other


@define(kw_only=True)
class Server:
    """
    A simulated server. Its functions receive the time, so that their results can change with it.

    Attributes:
        latency: Returns the seconds that a call takes. It also receives a random generator and the calls in flight.
        workers: Returns how many calls are processed concurrently; the others queue. None: no limit.
        max_in_flight: Returns how many calls may be in flight. The server refuses further calls.
        retry_after: The seconds that a refusal asks the client to wait.
        stalls: The start and end of a period in which the server sends no replies.
    """

    latency: Callable[[random.Random, float, int], float] = lambda _random, _now, _in_flight: 0.02
    workers: Callable[[float], int | None] = lambda _now: None
    max_in_flight: Callable[[float], float] = lambda _now: float("inf")
    retry_after: float = 0.0
    stalls: tuple[float, float] = (0.0, 0.0)
    _in_flight: int = 0
    _busy_until: list[float] = field(factory=list[float])

    def start_call(self, now: float, rng: random.Random) -> tuple[float, AttemptEnd]:
        """Start a call. Return when its reply is sent, and which reply it is."""
        if self._in_flight >= self.max_in_flight(now):
            return now + 0.001, AttemptEnd.REFUSED  # a refusal is fast
        self._in_flight += 1
        work = self.latency(rng, now, self._in_flight)
        workers, start = self.workers(now), now
        if workers is not None:
            self._busy_until = sorted(until for until in self._busy_until if until > now)
            if len(self._busy_until) >= workers:
                start = self._busy_until[-workers]  # when a worker becomes free for this call
            self._busy_until.append(start + work)
        finished_at = start + work
        replied_at = self.stalls[1] if self.stalls[0] <= finished_at <= self.stalls[1] else finished_at
        return replied_at, AttemptEnd.ANSWERED

    def finish_call(self) -> None:
        """Count a call as finished."""
        self._in_flight -= 1


class FixedLimit:
    """A limit that never changes; replaces an ``AutoConcurrency``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def record_begin(self, _: float) -> Attempt:
        return Attempt(0, 0, 0)  # `record_end` doesn't read it

    def record_end(self, attempt: Attempt, end: AttemptEnd, now: float) -> None:
        """Do nothing."""


@define
class Result:
    """The duration of an upload, the share of refused attempts, and the limit after each reply."""

    seconds: float
    refused: float
    limits: list[int]


def simulate(
    server: Server,
    limit: AutoConcurrency | FixedLimit,
    chunks: int,
    *,
    seed: int = 1,
    read: Callable[[float], float] = lambda _now: 0.0,
) -> Result:
    """Upload *chunks* chunks. *read* receives the time, and returns how many seconds reading the next chunk takes."""
    rng, order = random.Random(seed), itertools.count()  # noqa: S311 -- not for security
    events: list[tuple[float, int, str, Any]] = []  # a heap: time, order, kind, details
    # The client is busy sending calls until *sending_until*. The next chunk can be read from *readable_at* on.
    now = sending_until = readable_at = 0.0
    unread, in_flight, attempts, refused = chunks, 0, 0, 0
    is_reading = False
    limits: list[int] = []

    def schedule(time: float, kind: str, details: Any = None) -> None:
        heapq.heappush(events, (time, next(order), kind, details))

    def send(attempt_number: int) -> None:
        nonlocal sending_until
        sending_until = max(now, sending_until) + CLIENT_CPU_S
        schedule(sending_until, "sent", attempt_number)

    schedule(0.0, "read")
    while events:
        now, _, kind, details = heapq.heappop(events)
        if kind == "read":
            is_reading = False
        elif kind == "sent":
            attempts += 1
            attempt = limit.record_begin(now)
            replied_at, end = server.start_call(now, rng)
            schedule(replied_at, "reply", (attempt, end, details))
        elif kind == "reply":
            attempt, end, attempt_number = details
            limit.record_end(attempt, end, max(now, sending_until))
            limits.append(limit.limit)
            if end is AttemptEnd.ANSWERED:
                server.finish_call()
                in_flight -= 1
            else:
                refused += 1
                # The client's default retry policy: exponential, with jitter.
                wait = 0.25 * 2 ** (attempt_number - 1) * (1 - rng.random() / 2)
                schedule(now + max(wait, server.retry_after), "retry", attempt_number + 1)
        else:
            send(details)
        while unread and in_flight < limit.limit and not is_reading:
            if readable_at > now:
                is_reading = True
                schedule(readable_at, "read")
                break
            readable_at = now + read(now)
            unread, in_flight = unread - 1, in_flight + 1
            send(1)
    assert in_flight == unread == 0
    return Result(now, refused / attempts, limits)
