"""The language of the command's output."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Self, cast

from gatepay_async.words import LANGUAGES, Lang, say
from gatepay_async.words.command import COMMAND
from gatepay_async.words.problem import Problem
from gatepay_async.words.problems import PROBLEMS

# A context variable, because tests run the command several times in one process.
_language: ContextVar[Lang] = ContextVar("language", default="en")


def set_language(language: Lang) -> None:
    """Set the language, one of ``LANGUAGES``."""
    _language.set(language)


def current_language() -> Lang:
    """Return the language."""
    return _language.get()


class CommandText(str):
    """
    A text of the command in the current language.

    Args:
        message: The text.
        name: Its key in ``COMMAND``, for programs.
        facts: The values in the text, for programs.

    Attributes:
        name: Its key in ``COMMAND``.
        facts: The values in the text.
    """

    __slots__ = ("facts", "name")

    name: str
    facts: Mapping[str, object]

    def __new__(cls, message: str, name: str, facts: Mapping[str, object]) -> Self:  # noqa: D102 -- the class says it
        result = super().__new__(cls, message)
        result.name, result.facts = name, facts
        return result

    def __reduce__(self) -> tuple[object, ...]:
        return CommandText, (str(self), self.name, self.facts)


def text(key: str, **values: object) -> CommandText:
    """
    Return the text with this *key* in the current language.

    A problem in *values* is translated, and the texts of a list are joined.
    """
    shown = {name: _in_sentence(value) for name, value in values.items()}
    return CommandText(say(COMMAND[key], _language.get(), **shown), key, values)


def problem_text(problem: Problem) -> str:
    """
    Return *problem* in the current language.

    If the command has its own text for the problem, that is returned, because the library's text is for programmers.
    """
    facts = {name: problem_text(fact) if isinstance(fact, Problem) else fact for name, fact in problem.facts.items()}
    words = COMMAND.get(f"problem.{problem.name}") or PROBLEMS[problem.name]
    return say(words, _language.get(), **facts)


def _in_sentence(value: object) -> object:
    """Return *value* as it appears in a sentence."""
    if isinstance(value, Problem):
        return problem_text(value)
    if isinstance(value, list):
        return say(COMMAND["texts.and"], _language.get()).join(map(str, cast("list[object]", value)))
    return value


def choose_language(arguments: list[str], environ: Mapping[str, str], *, encoding: str) -> Lang:
    """
    Choose the language: that of ``--lang``, or else that of the locale.

    Args:
        arguments: The command line.
        environ: The environment. The first of ``LC_ALL``, ``LC_MESSAGES`` and ``LANG`` that is not empty applies.
        encoding: The encoding of standard output. If it has no Chinese, the locale can't choose Chinese.
    """
    option = _lang_option(arguments)
    for language in LANGUAGES:
        if language == option:
            return language
    locale = next(filter(None, map(environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), None) or _system_locale()
    if not locale.lower().startswith(("zh", "chinese")):
        return "en"
    try:
        "密".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "en"
    return "zh"


def _lang_option(arguments: list[str]) -> str:
    """Return the value of ``--lang``, anywhere in *arguments*. Typer validates it later."""
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--lang":
            return "".join(arguments[index + 1 : index + 2])
        if argument.startswith("--lang="):
            return argument.removeprefix("--lang=")
    return ""


def _system_locale() -> str:
    """Return the locale of the system. Windows sets none of the variables."""
    from locale import getlocale

    return getlocale()[0] or ""
