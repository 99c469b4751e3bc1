"""``gatepay doctor``: checks the setup and the connection to GatePay, and says how to fix problems."""

import platform
import ssl
import time
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

import httpx
from attrs import evolve, frozen

from gatepay_async.cli import failures, settings
from gatepay_async.cli.commands.callback import CallbackFields, Verdict, send_callback, signed_query
from gatepay_async.cli.language import CommandText, problem_text, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import print_line, wrap_indented
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.exchange import trust
from gatepay_async.exchange.network import open_transport
from gatepay_async.exchange.proxies import Bypass, proxy_for
from gatepay_async.exchange.urls import BadUrlError, parse_url
from gatepay_async.protocol import invisible
from gatepay_async.protocol.errors import GatePayError, InvalidRequestError
from gatepay_async.protocol.messages import open_envelope
from gatepay_async.protocol.values import MisreadError
from gatepay_async.version import __version__
from gatepay_async.words.problem import Problem

_MAX_SKEW_S = 60  # an inaccurate clock affects the `max_age` of callbacks
_INDENT_COLUMNS = 7  # the width of a mark and a space, in both languages
_PACKAGES = ("httpx", "anyio", "msgspec", "typer", "rich", "uvicorn")  # whose versions are shown


class Mark(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@frozen
class Finding:
    """
    The result of one check.

    Attributes:
        about: The name of what was checked.
        mark: The severity.
        result: What was found.
        todo: How to fix the problem, or empty.
        status: The exit status for this finding.
    """

    about: str
    mark: Mark
    result: CommandText | Problem
    todo: str = ""
    status: Status = Status.DONE

    @property
    def text(self) -> str:
        """The result in the user's language."""
        return problem_text(self.result) if isinstance(self.result, Problem) else self.result


async def diagnose(callback_url: str) -> Status:
    """Run all checks, and print each finding immediately. The most severe finding decides the exit status."""
    findings: list[Finding] = []

    def record(*new: Finding) -> None:
        findings.extend(new)
        for finding in new:
            _print_finding(finding)

    record(_check_versions(), _check_tls(), _check_proxy())
    record(*_check_credentials())
    if all(finding.mark is not Mark.BAD for finding in findings):
        record(*await _check_server())
        if callback_url:
            record(*await _check_callback(callback_url))
    if wants_json():
        print_json(findings=[_finding_as_json(finding) for finding in findings])
    return max(finding.status for finding in findings)


def _finding_as_json(finding: Finding) -> dict[str, object]:
    """Return a finding for JSON. One that is not ok has a ``problem``, as an error has."""
    names = ("about", "mark", "text", "todo")
    document: dict[str, object] = {name: str(getattr(finding, name)) for name in names}
    if finding.mark is not Mark.OK:
        document["problem"] = failures.text_as_json(finding.result)
    return document


def _print_finding(finding: Finding) -> None:
    if wants_json():
        return
    styles = {Mark.OK: "green", Mark.WARN: "yellow", Mark.BAD: "bold red"}
    message = text("doctor.finding", about=text(f"doctor.{finding.about}"), text=escape(finding.text))
    print_line(
        f"{text(f'doctor.{finding.mark}')} {wrap_indented(message, indent=_INDENT_COLUMNS)}", style=styles[finding.mark]
    )
    if finding.todo:
        print_line(
            " " * _INDENT_COLUMNS + wrap_indented(text("failing.todo") + escape(finding.todo), indent=_INDENT_COLUMNS)
        )


def _check_versions() -> Finding:
    versions = [f"gatepay-async {__version__}", f"Python {platform.python_version()} ({platform.system()})"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(text("doctor.without", package=package))
    return Finding("versions", Mark.OK, text("doctor.versions_are", versions=", ".join(versions)))


def _check_tls() -> Finding:
    try:
        count = trust.count_certificates(trust.trusted())
    except InvalidRequestError as error:
        return Finding("tls", Mark.BAD, failures.headline(error), text("doctor.tls_bad.todo"), Status.USAGE)
    except OSError as error:  # certifi's file is missing; ssl.SSLError is an OSError, too
        reason = f"{type(error).__name__}: {error}"
        return Finding(
            "tls", Mark.BAD, text("doctor.tls_bad", reason=reason), text("doctor.tls_bad.todo"), Status.USAGE
        )
    if not count:
        return Finding("tls", Mark.BAD, text("doctor.tls_empty"), text("doctor.tls_bad.todo"), Status.USAGE)
    return Finding("tls", Mark.OK, text("doctor.tls_ok", count=count, version=ssl.OPENSSL_VERSION))


def _check_proxy() -> Finding:
    """Check the URL of the server, and which proxy is used for it."""
    try:
        url = _base_url()
        proxy = proxy_for(url)
    except InvalidRequestError as error:
        about = "server" if error.field == "GATEPAY_BASE_URL" else "proxy"
        return Finding(about, Mark.BAD, failures.headline(error), failures.explain(error).remedy, Status.USAGE)
    if isinstance(proxy, Bypass):
        message = text("doctor.proxy_bypassed", host=url.host) if proxy.host_excluded else text("doctor.no_proxy")
        return Finding("proxy", Mark.OK, message)
    return Finding("proxy", Mark.WARN, text("doctor.through", proxy=proxy.address), text("doctor.through.todo"))


def _base_url() -> httpx.URL:
    try:
        return parse_url(invisible.strip(settings.base_url()))
    except BadUrlError as error:
        problem = error.problem
    raise InvalidRequestError(field="GATEPAY_BASE_URL", problem=problem)


def _check_credentials() -> list[Finding]:
    findings: list[Finding] = []
    path = settings.secret_path()
    try:
        credentials = settings.credentials()
        appkey = credentials.appkey()
        credentials.secret()  # fails if there is no secret
    except HaltError as error:
        return [Finding("credentials", Mark.BAD, error.problem, error.todo, Status.USAGE)]
    message = text("doctor.credentials_ok", appkey=appkey, where=credentials.secret_location)
    findings.append(Finding("credentials", Mark.OK, message))
    # The file of a profile is refused unless it is private.
    from_environment = isinstance(credentials, settings.EnvironmentCredentials)
    if from_environment and path is not None and settings.is_world_readable(path):
        findings.append(
            Finding(
                "credentials",
                Mark.WARN,
                text("settings.secret_shared", path=path),
                text("doctor.secret_shared.todo", path=path),
            )
        )
    return findings


async def _check_server() -> list[Finding]:
    """Make one ``product/show`` call, which checks the network, the credentials and the clock."""
    transport = _BodyRecorder(await open_transport(_base_url()))
    before = time.time()
    failure: GatePayError | None = None
    products = 0
    try:
        async with (
            transport,
            settings.credentials().client(transport=transport, deadline=20) as gatepay,
        ):
            products = len((await gatepay.list_products()).products)
    except GatePayError as error:
        failure = error
    duration = time.time() - before
    findings = [_check_clock(transport.body, before + duration / 2)] if transport.body else []
    if failure is None:
        message = text("doctor.server_ok", url=settings.base_url(), products=products, ms=f"{duration * 1000:.0f}")
        return [Finding("server", Mark.OK, message), *findings]
    return [_server_failure(failure), *findings]


def _server_failure(failure: GatePayError) -> Finding:
    """Return the finding for a call that has failed."""
    explanation, status = failures.explain(failure), failures.error_status(failure)
    message = text("doctor.failed", headline=failures.headline(failure).rstrip(".。"), cause=explanation.cause)
    todo = explanation.remedy
    if status is Status.NO_ANSWER:
        todo = text("doctor.failed.todo", url=settings.base_url())
    elif "gatepay doctor" in todo:  # the user is running it already
        todo = text("doctor.refused.todo")
    return Finding("server", Mark.BAD, message, todo, status)


def _check_clock(body: bytes, our_time: float) -> Finding:
    """Compare the time in the *body* of a reply with this machine's time when the server sent it."""
    try:
        server_time = open_envelope(body).time
    except MisreadError:
        server_time = None
    if server_time is None:
        return Finding("clock", Mark.WARN, text("doctor.no_time"))
    skew = our_time - server_time.timestamp()
    if abs(skew) <= _MAX_SKEW_S:
        return Finding("clock", Mark.OK, text("doctor.clock_ok", skew=f"{round(skew):+}"))
    now = datetime.fromtimestamp(our_time, UTC)
    message = text(
        "doctor.clock_off",
        skew=f"{skew:+,.0f}",
        ours=f"{now:%Y-%m-%d %H:%M:%S}",
        theirs=f"{server_time:%Y-%m-%d %H:%M:%S}",
    )
    return Finding("clock", Mark.WARN, message, text("doctor.clock_off.todo"))


async def _check_callback(url: str) -> list[Finding]:
    """Send a genuine and a forged callback for an order that no shop has. The shop must reject the forged one."""
    genuine = CallbackFields(
        order_id=1, order="GATEPAY-DOCTOR-X", price="0.01", realprice="0.01", pay_type="alipay",
        extend="gatepay doctor", paid_at=0,
    )  # fmt: skip
    forged = evolve(genuine, forged=True)
    try:
        to_genuine = await send_callback(url, signed_query(genuine))
        to_forged = await send_callback(url, signed_query(forged))
    except HaltError as error:
        return [Finding("callback", Mark.BAD, error.problem, error.todo, error.status)]
    except InvalidRequestError as error:  # an invalid proxy for this URL; GatePay's URL may need no proxy
        return [Finding("callback", Mark.BAD, failures.headline(error), failures.explain(error).remedy, Status.USAGE)]
    if to_forged.verdict is Verdict.SUCCESS:
        message, todo = text("doctor.forged_believed"), text("doctor.forged_believed.todo")
        return [Finding("callback", Mark.BAD, message, todo, Status.REFUSED)]
    if to_forged.verdict is not Verdict.FAIL or to_genuine.verdict is Verdict.NEITHER:
        message = text("doctor.callback_strange", genuine=to_genuine.description, forged=to_forged.description)
        return [Finding("callback", Mark.BAD, message, text("callback.neither.todo"), Status.NO_ANSWER)]
    return [Finding("callback", Mark.OK, text("doctor.callback_ok", genuine=to_genuine.text))]


class _BodyRecorder(httpx.AsyncBaseTransport):
    """Records the body of the last reply, because the client's models leave out its ``time``."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.body = b""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request* through the inner transport, and record the body of the response."""
        reply = await self._inner.handle_async_request(request)
        try:
            self.body = await reply.aread()
        finally:
            await reply.aclose()
        # aread() has decoded the body.
        headers = [(name, value) for name, value in reply.headers.raw if name.lower() != b"content-encoding"]
        return httpx.Response(reply.status_code, headers=headers, content=self.body)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()
