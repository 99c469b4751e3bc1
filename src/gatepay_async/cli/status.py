"""What the command ends with, and the error that ends it."""

from collections.abc import Mapping
from enum import IntEnum

from gatepay_async.words.problem import Problem


class Status(IntEnum):
    """The exit statuses; README.md and ``gatepay --help`` list them."""

    DONE = 0
    PARTLY = 1
    USAGE = 2
    REFUSED = 3
    NO_ANSWER = 4
    NO_OUTPUT = 5  # standard output can't be written, whatever the command has done
    INTERRUPTED = 130  # as a shell says it: 128 + SIGINT
    PIPE_CLOSED = 141  # 128 + SIGPIPE


class HaltError(Exception):
    """
    The command can't go on, and says why in the reader's language.

    Args:
        text: Why. May hold what came from elsewhere; it is made harmless where it is shown.
        todo: What to do next, or empty.
        status: What to end with.
        problem: The same for programs, if an error of the library's is behind it.
        facts: More of it for programs.
    """

    def __init__(
        self,
        text: str,
        *,
        todo: str = "",
        status: Status = Status.USAGE,
        problem: Problem | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.todo = todo
        self.status = status
        self.problem = problem
        self.facts = facts or {}
