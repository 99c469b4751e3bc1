"""The language of the command's output."""

from collections.abc import Mapping
from contextvars import ContextVar

from gatepay_async.words import LANGUAGES, Lang, say
from gatepay_async.words.command import COMMAND

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

    Attributes:
        name: Its key in ``COMMAND``, for programs.
        facts: The values in the text, for programs.
    """

    __slots__ = ("facts", "name")

    name: str
    facts: Mapping[str, object]


def text(key: str, **values: object) -> str:
    """Return the text with this *key* in the current language, as a ``CommandText``."""
    result = CommandText(say(COMMAND[key], _language.get(), **values))
    result.name, result.facts = key, values
    return result


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
