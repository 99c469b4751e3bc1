"""The exit statuses, and the error that ends the command."""

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
    NO_OUTPUT = 5  # standard output can't be written; the command may have done its work
    INTERRUPTED = 130  # as in shells: 128 + SIGINT
    PIPE_CLOSED = 141  # 128 + SIGPIPE


class HaltError(Exception):
    """
    An error that ends the command. Its text is in the user's language.

    Args:
        text: What went wrong. It may contain text from outside, which is escaped when it is printed.
        todo: What to do next, or empty.
        status: The exit status.
        problem: The problem for the JSON output, if an error of the library is the cause.
        facts: More values for the JSON output.
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
