"""``Problem``: says what is wrong, with a name and facts for programs, and a sentence in each language for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from errno import errorcode
from typing import Any, Self, TypeAlias

from gatepay_async.words import Lang, say
from gatepay_async.words.problems import OS_ERRORS, PROBLEMS

__all__ = ["Problem"]

# A value in a sentence.
Fact: TypeAlias = "str | int | float | Problem | None"


class Problem(str):
    """
    The ``.problem`` of an error. As a ``str`` it is the English sentence.

    Args:
        name: The name of a row in ``PROBLEMS``.
        facts: The values for the placeholders of the sentence. Never a secret.

    Attributes:
        name: The name, for programs. It stays the same if the sentence changes.
        facts: The values in the sentence, for programs.
    """

    __slots__ = ("facts", "name")

    name: str
    facts: Mapping[str, Fact]

    def __new__(cls, name: str, /, **facts: Fact) -> Self:  # noqa: D102 -- the class says it
        problem = super().__new__(cls, say(PROBLEMS[name], "en", **facts))
        problem.name, problem.facts = name, facts
        return problem

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (str(self), self.name, self.facts)

    def in_(self, lang: Lang) -> str:
        """Return the sentence in *lang*. Facts are translated only if they are problems themselves."""
        facts = {name: fact.in_(lang) if isinstance(fact, Problem) else fact for name, fact in self.facts.items()}
        return say(PROBLEMS[self.name], lang, **facts)

    def with_facts(self, change: Callable[[str], str]) -> Problem:
        """Return the same problem with *change* applied to each fact that is text, for example to mask it."""
        return Problem(self.name, **{name: _changed(fact, change) for name, fact in self.facts.items()})

    def as_json(self, lang: Lang = "en") -> dict[str, Any]:
        """Return the name, the sentence in *lang* and the facts for JSON."""
        facts = {name: fact.as_json(lang) if isinstance(fact, Problem) else fact for name, fact in self.facts.items()}
        return {"name": self.name, "text": self.in_(lang), "facts": facts}

    @staticmethod
    def of(text: str) -> Problem:
        """Return *text* if it is a problem already, or a problem named ``other`` with that text."""
        return text if isinstance(text, Problem) else Problem("other", text=text)

    @staticmethod
    def of_json(stored: Any) -> Problem:
        """Return the problem from the result of ``as_json`` in English, or from a plain text of older versions."""
        if isinstance(stored, str):
            return Problem.of(stored)
        facts = {
            name: Problem.of_json(fact) if isinstance(fact, dict) else fact for name, fact in stored["facts"].items()
        }
        return _restore(stored["text"], stored["name"], facts)


def _changed(fact: Fact, change: Callable[[str], str]) -> Fact:
    """Apply *change* to a fact that is text, and to the facts of a fact that is a problem."""
    if isinstance(fact, Problem):
        return fact.with_facts(change)
    return change(fact) if isinstance(fact, str) else fact


def _restore(text: str, name: str, facts: Mapping[str, Fact]) -> Problem:
    """Restore a problem. If this version doesn't know its name, only the text is kept."""
    try:
        return Problem(name, **facts)
    except (LookupError, TypeError, ValueError):
        return Problem.of(text)


def message_of(error: BaseException) -> str:
    """Return the ``Problem`` that *error* was raised with, or its text."""
    message = error.args[0] if error.args else None
    return message if isinstance(message, Problem) else str(error)


def os_reason(error: OSError) -> str:
    """Return the operating system's reason for *error*: a ``Problem`` if it is a common one, else the system's text."""
    name = errorcode.get(error.errno or 0)
    return Problem(name) if name in OS_ERRORS else error.strerror or str(error)
