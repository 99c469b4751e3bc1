"""``gatepay doctor``: what stands between you and GatePay, and what to do about it."""

import os
import platform
import ssl
import time
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import httpx
from attrs import frozen

from gatepay_async.cli import failures, settings
from gatepay_async.cli.commands.callback import Told, Verdict, deliver, innermost, signed
from gatepay_async.cli.language import say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import hanging, line
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.client import AsyncGatePay
from gatepay_async.exchange import trust
from gatepay_async.exchange.proxies import Bypass, proxy_for
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.exchange.way import open_transport
from gatepay_async.protocol import invisible
from gatepay_async.protocol.codec import MisreadError
from gatepay_async.protocol.errors import GatePayError, InvalidRequestError
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
        count = trust.count(trust.trusted())
    except InvalidRequestError as error:
        return Finding("tls", Mark.BAD, failures.headline(error), say("doctor.tls_bad.todo"), Status.USAGE)
    except OSError as error:  # certifi's file; ssl.SSLError is one
        reason = f"{type(error).__name__}: {error}"
        return Finding("tls", Mark.BAD, say("doctor.tls_bad", reason=reason), say("doctor.tls_bad.todo"), Status.USAGE)
    if not count:
        return Finding("tls", Mark.BAD, say("doctor.tls_empty"), say("doctor.tls_bad.todo"), Status.USAGE)
    return Finding("tls", Mark.OK, say("doctor.tls_ok", count=count, version=ssl.OPENSSL_VERSION))


def _proxy() -> Finding:
    try:
        url = _base_url()
        found = proxy_for(url)
    except InvalidRequestError as error:
        about = "server" if error.field == "GATEPAY_BASE_URL" else "proxy"
        return Finding(about, Mark.BAD, failures.headline(error), failures.explain(error).remedy, Status.USAGE)
    if isinstance(found, Bypass):
        text = say("doctor.proxy_bypassed", host=url.host) if found.listed else say("doctor.no_proxy")
        return Finding("proxy", Mark.OK, text)
    return Finding("proxy", Mark.WARN, say("doctor.through", proxy=found.address), say("doctor.through.todo"))


def _base_url() -> httpx.URL:
    try:
        return parse_url(invisible.strip(settings.base_url()))
    except BadUrlError as error:
        problem = error.problem
    raise InvalidRequestError(field="GATEPAY_BASE_URL", problem=problem)


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
    over = _Noting(await open_transport(_base_url()))
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
    known, status = failures.explain(failure), failures.status_of(failure)
    text = say("doctor.failed", headline=failures.headline(failure).rstrip(".。"), cause=known.cause)
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
        to_genuine = await deliver(url, signed(told))
        to_forged = await deliver(url, signed(forged))
    except HaltError as error:
        return [Finding("callback", Mark.BAD, error.text, error.todo, error.status)]
    except InvalidRequestError as error:  # of the environment: the way to this address is another one than GatePay's
        return [Finding("callback", Mark.BAD, failures.headline(error), failures.explain(error).remedy, Status.USAGE)]
    if to_forged.verdict is Verdict.SUCCESS:
        text, todo = say("doctor.forged_believed"), say("doctor.forged_believed.todo")
        return [Finding("callback", Mark.BAD, text, todo, Status.REFUSED)]
    if to_forged.verdict is not Verdict.FAIL or to_genuine.verdict is Verdict.NEITHER:
        text = say("doctor.callback_strange", genuine=to_genuine.shown, forged=to_forged.shown)
        return [Finding("callback", Mark.BAD, text, say("callback.neither.todo"), Status.NO_ANSWER)]
    return [Finding("callback", Mark.OK, say("doctor.callback_ok", genuine=to_genuine.text))]


class _Noting(httpx.AsyncBaseTransport):
    """Carries what the client sends, and keeps the last reply's body: the client doesn't give its ``time``."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.body = b""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As a transport does."""
        try:
            reply = await self._inner.handle_async_request(request)
        except httpx.ConnectError as error:
            raise httpx.ConnectError(innermost(error)) from error
        try:
            self.body = await reply.aread()
        finally:
            await reply.aclose()
        headers = [(name, value) for name, value in reply.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(reply.status_code, headers=headers, content=self.body)

    async def aclose(self) -> None:
        """Close what carries."""
        await self._inner.aclose()
