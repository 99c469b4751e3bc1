"""The common parts of all pages: templates, the language, forms and redirects."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive

from gatepay_async.sandbox.forms import read_form
from gatepay_async.words import LANGUAGES, Lang, say
from gatepay_async.words.pages import PAGES

__all__ = ["as_json", "language_of", "read_body", "read_fields", "redirect", "render", "static_route"]

_SANDBOX_FOLDER = Path(__file__).parent
MAX_FORM_BYTES = 64 * 1024  # the longest field of our own forms has 2,000 characters
# The content types aren't guessed from the file names: on some machines .js is registered as plain text, and browsers
# wouldn't run it.
_STATIC = {"sandbox.css": "text/css", "sandbox.js": "text/javascript", "icon.svg": "image/svg+xml"}


def _format_amount(amount: Decimal) -> str:
    return f"¥{amount:,.2f}"


def _format_time(seconds: float) -> str:
    """Format a time in the local time zone: ``2026-01-31 09:30:00 UTC+8``."""
    local = datetime.fromtimestamp(seconds, UTC).astimezone()
    offset = f"{local:%z}"  # such as +0800
    zone = f"{offset[0]}{int(offset[1:3])}" + (f":{offset[3:5]}" if offset[3:5] != "00" else "")
    # UTC itself has no number: "UTC", not "UTC+0".
    return f"{local:%Y-%m-%d %H:%M:%S} UTC{'' if zone == '+0' else zone}"


def _format_iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


_templates = Environment(
    loader=FileSystemLoader(_SANDBOX_FOLDER / "templates", encoding="utf-8"),
    autoescape=True,  # in all templates, because a shop's texts come from outside
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters.update(money=_format_amount, moment=_format_time, iso=_format_iso_time)


def language_of(request: Request) -> Lang:
    """Return ``zh`` or ``en``: the value of ``?lang=``, or the language that the browser prefers, or English."""
    chosen = request.query_params.get("lang")
    for language in LANGUAGES:
        if language == chosen:
            return language
    # Each preference is a language tag and, after a semicolon, its quality: "zh-CN;q=0.9".
    preferences = [
        preference.partition(";") for preference in request.headers.get("accept-language", "").lower().split(",")
    ]
    by_quality = sorted(preferences, key=lambda preference: -_quality(preference[2]))
    for tag, _, _ in by_quality:
        for language in LANGUAGES:
            if tag.strip().partition("-")[0] == language:
                return language
    return "en"


def _say_on_page(language: Lang, name: str, **values: object) -> str:
    """Return the text *name* of the pages."""
    return say(PAGES[name], language, **values)


def _quality(parameter: str) -> float:
    """Return the quality after ``q=`` in an Accept-Language header, or 1 if there is none."""
    try:
        return float(parameter.strip().removeprefix("q="))
    except ValueError:
        return 1.0


def _link(request: Request, path: str, **query: object) -> str:
    """Return a link to *path*."""
    # Keep the language only if the user has chosen it. The browser sends its preferred one with each request.
    chosen = request.query_params.get("lang")
    fields = {**query, **({"lang": chosen} if chosen in LANGUAGES and "lang" not in query else {})}
    return f"{path}?{urlencode(fields)}" if fields else path


def _own_path(request: Request) -> str:
    """
    The path of this page, for links to it.

    It starts with exactly one slash: a path that starts with two slashes would lead to another host.
    """
    return "/" + request.url.path.lstrip("/\\")


def _in_language(request: Request, language: str) -> str:
    """Return a link to this page in *language*."""
    return f"{_own_path(request)}?{urlencode({**request.query_params, 'lang': language})}"


def render(request: Request, template: str, *, status: int = 200, **context: object) -> Response:
    """Return a page in the language of the request."""
    language = language_of(request)
    html = _templates.get_template(template).render(
        language=language,
        t=partial(_say_on_page, language),
        link=partial(_link, request),
        in_language=partial(_in_language, request),
        address=f"{_own_path(request)}?{request.url.query}".removesuffix("?"),
        **context,
    )
    return HTMLResponse(html, status_code=status, headers={"Content-Language": language})


def as_json(data: Mapping[str, object], *, status: int = 200) -> Response:
    """Return *data* as a JSON response."""
    return Response(json.dumps(data, ensure_ascii=False), status_code=status, media_type="application/json")


def redirect(request: Request, path: str, **query: object) -> Response:
    """Redirect to another page after a form was sent, so that reloading doesn't send the form again."""
    return RedirectResponse(_link(request, path, **query), status_code=303)


async def read_body(receive: Receive, *, limit: int) -> bytes | None:
    """Read a request's body. None: it is larger than *limit* bytes, or the client disconnected before its end."""
    # A body that is too large is read to its end, because otherwise the client would get a broken pipe instead of the
    # 413. An incomplete body is discarded, because a truncated form must not be handled.
    body, size, more = bytearray(), 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        body += chunk if size <= limit else b""
    return bytes(body) if size <= limit else None


async def read_fields(request: Request) -> dict[str, str]:
    """
    Read the form that one of our pages has sent. A body that is too large counts as an empty form.

    Raises:
        MalformedFormError: The body is not a valid form.
    """
    body = await read_body(request.receive, limit=MAX_FORM_BYTES)
    return read_form(request.headers.get("content-type", ""), body or b"")


def static_route() -> Route:
    """Return the route of the style sheet, the script and the icon. The files are read once."""
    files = {name: (_SANDBOX_FOLDER / "static" / name).read_bytes() for name in _STATIC}

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return PlainTextResponse("Not Found", status_code=404)
        return Response(files[name], media_type=_STATIC[name])

    return Route("/static/{name}", static, methods=["GET"])
