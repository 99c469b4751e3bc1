"""The exit statuses, and the error that ends the command."""

from collections.abc import Mapping
from enum import IntEnum

from gatepay_async.cli.language import CommandText, problem_text
from gatepay_async.words.problem import Problem


class Status(IntEnum):
    """The exit statuses; docs/en/command.md and ``gatepay --help`` list them."""

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
    An error that ends the command.

    Args:
        problem: What went wrong. It may contain text from outside, which is escaped when it is printed.
        todo: What to do next, or empty.
        status: The exit status.
        facts: More values for the JSON output.
        result: What the command had done before the error. ``--json`` prints it and the error as one object.
    """

    def __init__(
        self,
        problem: CommandText | Problem,
        *,
        todo: str = "",
        status: Status = Status.USAGE,
        facts: Mapping[str, object] | None = None,
        result: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.todo = todo
        self.status = status
        self.facts = facts or {}
        self.result = result or {}

    @property
    def text(self) -> str:
        """The problem in the user's language."""
        return problem_text(self.problem) if isinstance(self.problem, Problem) else self.problem
