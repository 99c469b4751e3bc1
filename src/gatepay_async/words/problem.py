"""What is wrong, as data: a name and facts for programs, and a sentence in each language for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias

from gatepay_async.words import Lang, say
from gatepay_async.words.problems import PROBLEMS

__all__ = ["Problem"]

Fact: TypeAlias = "str | int | float | Problem | None"


class Problem(str):
    """
    The ``.problem`` of an error. As a ``str`` it is the English sentence.

    Args:
        name: A row of ``PROBLEMS``.
        facts: What its sentence has holes for. Never a secret.

    Attributes:
        name: For programs; it stays the same when the sentence changes.
        facts: What the sentence is about.
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
        """The sentence in *lang*. Of the facts only problems are translated: a file may have any name."""
        facts = {name: fact.in_(lang) if isinstance(fact, Problem) else fact for name, fact in self.facts.items()}
        return say(PROBLEMS[self.name], lang, **facts)

    def with_facts(self, change: Callable[[str], str]) -> Problem:
        """The same problem, with *change* made to each fact that is text: to mask it."""
        return Problem(self.name, **{name: _changed(fact, change) for name, fact in self.facts.items()})

    def as_json(self, lang: Lang = "en") -> dict[str, Any]:
        """Its name, its sentence in *lang*, and its facts."""
        facts = {name: fact.as_json(lang) if isinstance(fact, Problem) else fact for name, fact in self.facts.items()}
        return {"name": self.name, "text": self.in_(lang), "facts": facts}

    @staticmethod
    def of(text: str) -> Problem:
        """*text* itself, if it is one; another text becomes the fact of one, as it is."""
        return text if isinstance(text, Problem) else Problem("other", text=text)

    @staticmethod
    def of_json(stored: Any) -> Problem:
        """What ``as_json`` gave, in English; or a text alone, which is what older versions stored."""
        if isinstance(stored, str):
            return Problem.of(stored)
        facts = {
            name: Problem.of_json(fact) if isinstance(fact, dict) else fact for name, fact in stored["facts"].items()
        }
        return _restore(stored["text"], stored["name"], facts)


def _changed(fact: Fact, change: Callable[[str], str]) -> Fact:
    if isinstance(fact, Problem):
        return fact.with_facts(change)
    return change(fact) if isinstance(fact, str) else fact


def _restore(text: str, name: str, facts: Mapping[str, Fact]) -> Problem:
    """The problem again. Another version may have named it: then only its text is known."""
    try:
        return Problem(name, **facts)
    except (LookupError, TypeError, ValueError):
        return Problem.of(text)


def message_of(error: BaseException) -> str:
    """What *error* says: the ``Problem`` that it was raised with, or its text."""
    message = error.args[0] if error.args else None
    return message if isinstance(message, Problem) else str(error)
