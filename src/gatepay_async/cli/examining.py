"""``gatepay doctor``: what stands between you and GatePay, and what to do about it."""

import os
import platform
import ssl
import time
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.request import getproxies, proxy_bypass

import httpx
from attrs import frozen

from gatepay_async.cli import failing, settings
from gatepay_async.cli.callbacks import Told, deliver, innermost, signed
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import hanging, line
from gatepay_async.cli.speech import say
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.protocol.codec import MisreadError
from gatepay_async.protocol.errors import GatePayError
from gatepay_async.protocol.wire import open_envelope
from gatepay_async.version import __version__

_MOST_SKEW = 60  # seconds; a callback's age is reckoned by this machine's clock
_INDENT = 7  # columns of a mark and a blank, in either language
_PACKAGES = ("httpx", "anyio", "msgspec", "typer", "rich", "uvicorn")


class Mark(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@frozen
class Finding:
    """
    What was found.

    Attributes:
        about: Which examination.
        text: The finding.
        todo: What to do, or empty.
        status: What the command ends with for it.
    """

    about: str
    mark: Mark
    text: str
    todo: str = ""
    status: Status = Status.DONE


async def examine(callback_url: str) -> Status:
    """Look at everything, show each finding as it is made; the gravest one is the command's end."""
    findings: list[Finding] = []

    def found(*new: Finding) -> None:
        findings.extend(new)
        for each in new:
            _show(each)

    found(_versions(), _tls(), _proxy())
    found(*_credentials())
    if all(each.mark is not Mark.BAD for each in findings):
        found(*await _server())
        if callback_url:
            found(*await _callback(callback_url))
    if wants_json():
        names = ("about", "mark", "text", "todo")
        emit(findings=[{name: str(getattr(each, name)) for name in names} for each in findings])
    return max(each.status for each in findings)


def _show(finding: Finding) -> None:
    if wants_json():
        return
    styles = {Mark.OK: "green", Mark.WARN: "yellow", Mark.BAD: "bold red"}
    text = say("doctor.finding", about=say(f"doctor.{finding.about}"), text=plain(finding.text))
    line(f"{say(f'doctor.{finding.mark}')} {hanging(text, indent=_INDENT)}", style=styles[finding.mark])
    if finding.todo:
        line(" " * _INDENT + hanging(say("failing.todo") + plain(finding.todo), indent=_INDENT))


def _versions() -> Finding:
    named = [f"gatepay-async {__version__}", f"Python {platform.python_version()} ({platform.system()})"]
    for package in _PACKAGES:
        try:
            named.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            named.append(say("doctor.without", package=package))
    return Finding("versions", Mark.OK, ", ".join(named))


def _tls() -> Finding:
    try:
        count = httpx.create_ssl_context().cert_store_stats()["x509_ca"]
    except OSError as error:  # ssl.SSLError is one
        reason = f"{type(error).__name__}: {error}"
        return Finding("tls", Mark.BAD, say("doctor.tls_bad", reason=reason), say("doctor.tls_bad.todo"), Status.USAGE)
    if not count:
        return Finding("tls", Mark.BAD, say("doctor.tls_empty"), say("doctor.tls_bad.todo"), Status.USAGE)
    return Finding("tls", Mark.OK, say("doctor.tls_ok", count=count, version=ssl.OPENSSL_VERSION))


def _proxy() -> Finding:
    url = httpx.URL(settings.base_url())
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy:
        return Finding("proxy", Mark.OK, say("doctor.no_proxy"))
    if proxy_bypass(url.host):
        return Finding("proxy", Mark.OK, say("doctor.proxy_bypassed", host=url.host))
    shown = httpx.URL(proxy if "://" in proxy else f"http://{proxy}")
    # Without its user and password.
    return Finding(
        "proxy",
        Mark.WARN,
        say("doctor.through", proxy=f"{shown.host}:{shown.port or ''}".rstrip(":")),
        say("doctor.through.todo"),
    )


def _credentials() -> list[Finding]:
    findings: list[Finding] = []
    path = os.environ.get("GATEPAY_APPSECRET_FILE", "")
    try:
        appkey = settings.appkey()
        settings.secret()
    except HaltError as error:
        return [Finding("credentials", Mark.BAD, error.text, error.todo, Status.USAGE)]
    where = say("doctor.secret_in_file", path=path) if path else say("doctor.secret_in_variable")
    findings.append(Finding("credentials", Mark.OK, say("doctor.credentials_ok", appkey=appkey, where=where)))
    if path and settings.open_to_others(Path(path)):
        findings.append(
            Finding(
                "credentials",
                Mark.WARN,
                say("settings.secret_shared", path=path),
                say("doctor.secret_shared.todo", path=path),
            )
        )
    return findings


async def _server() -> list[Finding]:
    """One call of ``product/show``: it tells of the network, the key, the secret and the clock."""
    over = _Noting()
    before = time.time()
    failure: GatePayError | None = None
    products = 0
    try:
        async with over, AsyncGatePay(settings.appkey(), settings.secret(), transport=over, deadline=20) as gatepay:
            products = len((await gatepay.list_products()).products)
    except GatePayError as error:
        failure = error
    took = time.time() - before
    findings = [_clock(over.body, before + took / 2)] if over.body else []
    if failure is None:
        text = say("doctor.server_ok", url=settings.base_url(), products=products, ms=f"{took * 1000:.0f}")
        return [Finding("server", Mark.OK, text), *findings]
    return [_failed(failure), *findings]


def _failed(failure: GatePayError) -> Finding:
    known, status = failing.explain(failure), failing.status_of(failure)
    text = say("doctor.failed", headline=failing.headline(failure).rstrip(".。"), cause=known.cause)
    # What is to be done then is to run the doctor, says the catalogue to others.
    nobody = status is Status.NO_ANSWER
    todo = say("doctor.failed.todo", url=settings.base_url()) if nobody else known.remedy
    return Finding("server", Mark.BAD, text, todo, status)


def _clock(body: bytes, ours: float) -> Finding:
    try:
        theirs = open_envelope(body).time
    except MisreadError:
        theirs = None
    if theirs is None:
        return Finding("clock", Mark.WARN, say("doctor.no_time"))
    skew = ours - theirs.timestamp()
    if abs(skew) <= _MOST_SKEW:
        return Finding("clock", Mark.OK, say("doctor.clock_ok", skew=f"{skew:+.0f}"))
    now = datetime.fromtimestamp(ours, UTC)
    text = say(
        "doctor.clock_off", skew=f"{skew:+,.0f}", ours=f"{now:%Y-%m-%d %H:%M:%S}", theirs=f"{theirs:%Y-%m-%d %H:%M:%S}"
    )
    return Finding("clock", Mark.WARN, text, say("doctor.clock_off.todo"))


async def _callback(url: str) -> list[Finding]:
    """A genuine callback for an order that no shop has, and a forged one, which must be told from it."""
    told = Told(1, "GATEPAY-DOCTOR-X", "0.01", "0.01", "alipay", "gatepay doctor", 0)
    forged = Told(1, "GATEPAY-DOCTOR-X", "0.01", "0.01", "alipay", "gatepay doctor", 0, forged=True)
    try:
        _, to_genuine = await deliver(url, signed(told))
        _, to_forged = await deliver(url, signed(forged))
    except HaltError as error:
        return [Finding("callback", Mark.BAD, error.text, error.todo, error.status)]
    if to_forged == "success":
        return [
            Finding(
                "callback", Mark.BAD, say("doctor.forged_believed"), say("doctor.forged_believed.todo"), Status.REFUSED
            )
        ]
    if to_forged != "fail" or to_genuine not in ("success", "fail"):
        text = say("doctor.callback_strange", genuine=to_genuine, forged=to_forged)
        return [Finding("callback", Mark.BAD, text, say("callback.neither.todo"), Status.NO_ANSWER)]
    return [Finding("callback", Mark.OK, say("doctor.callback_ok", genuine=to_genuine))]


class _Noting(httpx.AsyncBaseTransport):
    """Carries what the client sends, and keeps the last reply's body: the client doesn't give its ``time``."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncClient()
        self.body = b""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As a transport does."""
        try:
            reply = await self._inner.send(request)
        except httpx.ConnectError as error:
            raise httpx.ConnectError(innermost(error)) from error
        self.body = reply.content
        headers = [(name, value) for name, value in reply.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(reply.status_code, headers=headers, content=reply.content)

    async def aclose(self) -> None:
        """Close what carries."""
        await self._inner.aclose()
