"""In which language the command speaks."""

from collections.abc import Mapping
from contextvars import ContextVar

from gatepay_async.words import LANGUAGES, Lang, say
from gatepay_async.words.command import COMMAND

# Where the command is run several times in one process, each run speaks its own.
_language: ContextVar[Lang] = ContextVar("language", default="en")


def set_language(language: Lang) -> None:
    """Say everything in *language* from now on, one of ``LANGUAGES``."""
    _language.set(language)


def current_language() -> Lang:
    """The language that is spoken."""
    return _language.get()


def text(key: str, **values: object) -> str:
    """The text of that name, in the language that is spoken."""
    return say(COMMAND[key], _language.get(), **values)


def choose_language(arguments: list[str], environ: Mapping[str, str], *, encoding: str) -> Lang:
    """
    Which language to speak: what ``--lang`` asks for, or else the locale's.

    Args:
        arguments: Of the command line.
        environ: The environment. ``LC_ALL``, ``LC_MESSAGES``, ``LANG``: the first that is not empty counts.
        encoding: Of standard output. Where it can't carry Chinese, nobody is spoken to in Chinese unasked.
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
    """What follows ``--lang``, wherever it stands; Typer will judge it later."""
    for place, argument in enumerate(arguments):
        if argument == "--":
            break
        if argument == "--lang":
            return "".join(arguments[place + 1 : place + 2])
        if argument.startswith("--lang="):
            return argument.removeprefix("--lang=")
    return ""


def _system_locale() -> str:
    """Windows sets none of the variables."""
    from locale import getlocale

    return getlocale()[0] or ""
