"""
The ASGI application around the endpoints.

Every call is a POST of a form (order/check: a GET). The response has the vendor's envelope and the status 200, even for
a refusal, unless the option status_is_code is set. Other requests get a plain page: 405 for another method, 404 for
another path, 413 for a body that is too large.
"""

import logging
import time
import traceback
from collections.abc import Callable
from functools import partial

from anyio import to_thread
from attrs import asdict
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gatepay_async.sandbox.api_service import ApiService
from gatepay_async.sandbox.endpoint import CallRefusedError, Endpoint
from gatepay_async.sandbox.endpoints import ENDPOINTS
from gatepay_async.sandbox.events import OUTCOME, CallEvent, CallOutcome
from gatepay_async.sandbox.fault_injection import FaultyExchange, inject_fault
from gatepay_async.sandbox.faults import Fault
from gatepay_async.sandbox.forms import MalformedFormError, filtered, read_form, read_pairs
from gatepay_async.sandbox.orders import qrcode_png
from gatepay_async.sandbox.pages import origin_of
from gatepay_async.sandbox.refusals import SUCCESS, SUCCESS_TEXT, Cause, text_of
from gatepay_async.sandbox.replies import Replies
from gatepay_async.sandbox.web import read_body

__all__ = ["MAX_BODY_BYTES", "FaultyApp", "build_app"]

MAX_BODY_BYTES = 8 * 1024 * 1024  # 500 card keys of 255 characters, percent-encoded, have about 1.5 MiB

MAX_QR_CHARS = 500  # fits into a QR code, whatever the characters are

LOGGER = logging.getLogger("gatepay_async.sandbox")


class FaultyApp:
    """
    The sandbox's ASGI application: reports each call, and injects faults.

    Args:
        app: The application that executes calls.
        pick: Records a request to an endpoint, and chooses the fault for it, or None.
        now: Returns the sandbox's time, in epoch seconds.
        replies: Makes the refusals that a fault asks for.
        notify: Called with each call when it has ended.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        pick: Callable[[str], Fault | None],
        now: Callable[[], float],
        replies: Replies,
        notify: Callable[[CallEvent], object],
    ) -> None:
        self._app = app
        self._pick = pick
        self._now = now
        self._replies = replies
        self._notify = notify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """
        Handle a request. If it is a call, report it, and inject a fault if one is due.

        Raises:
            Exception: The sandbox failed. The frames of the traceback are cleared: they hold card keys and signatures.
        """
        try:
            await self._handle_with_fault(scope, receive, send)
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            raise

    async def _handle_with_fault(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request. If it is a call, choose its fault, and report it at the end."""
        endpoint = _endpoint_of(scope)
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        outcome = scope[OUTCOME] = CallOutcome()
        arrived_at, started = self._now(), time.perf_counter()
        fault = self._pick(endpoint.path)
        try:
            await self._reply_with_fault(endpoint, fault, scope, receive, send)
        finally:
            milliseconds = (time.perf_counter() - started) * 1000
            kind = "" if fault is None else fault.kind.value
            event = CallEvent(
                at=arrived_at, endpoint=endpoint.path, milliseconds=milliseconds, fault=kind, **asdict(outcome)
            )
            self._notify(event)

    async def _reply_with_fault(
        self, endpoint: Endpoint, fault: Fault | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Handle a call, with *fault* if there is one."""
        if fault is None:
            await self._app(scope, receive, send)
            return
        LOGGER.debug("%s: fault %s", endpoint.path, fault.kind)

        def refuse(code: int) -> Response:
            LOGGER.debug("%s: %d", endpoint.path, code)
            outcome: CallOutcome = scope[OUTCOME]
            outcome.code, outcome.message = code, text_of(endpoint.refusals, code)
            return self._replies.refusal(code, outcome.message, self._now())

        await inject_fault(FaultyExchange(self._app, refuse, scope, receive, send), fault)


def _endpoint_of(scope: Scope) -> Endpoint | None:
    """Return the endpoint that the request calls; None: it is not a call."""
    endpoint = ENDPOINTS.get(scope["path"].removeprefix("/api/")) if scope["type"] == "http" else None
    return endpoint if endpoint is not None and scope["method"] == endpoint.method else None


def build_app(api: ApiService, pages: ASGIApp) -> Starlette:
    """Build the application: one route for each endpoint, the QR codes, and the pages for all other paths."""
    calls = [
        Route(f"/{endpoint.path}", partial(_handle_call, api, endpoint), methods=[endpoint.method])
        for endpoint in ENDPOINTS.values()
    ]
    return Starlette(
        routes=[
            Mount("/api", routes=calls),
            Route("/qrcode/build", _show_qrcode, methods=["GET"]),
            Mount("/", app=pages),
        ]
    )


async def _show_qrcode(request: Request) -> Response:
    # This route is not behind the pages' Guard, so that a shop's page may embed the image. The image contains only the
    # text of the request.
    text = request.query_params.get("text", "")
    if not 0 < len(text) <= MAX_QR_CHARS:
        return PlainTextResponse(f"Bad Request: text has 1 to {MAX_QR_CHARS} characters", status_code=400)
    return Response(await to_thread.run_sync(qrcode_png, text), media_type="image/png")


async def _handle_call(api: ApiService, endpoint: Endpoint, request: Request) -> Response:
    """Read the request, and execute the call in a thread."""
    body = await read_body(request.receive, limit=MAX_BODY_BYTES)
    if body is None:
        return PlainTextResponse("Content Too Large", status_code=413)
    if endpoint.method == "GET":
        read = partial(read_pairs, request.scope["query_string"])
    else:
        read = partial(read_form, request.headers.get("content-type", ""), body)
    execute = partial(_execute_call, api, endpoint, read, request.scope[OUTCOME], origin=origin_of(request.scope))
    return await to_thread.run_sync(execute)


def _execute_call(
    api: ApiService, endpoint: Endpoint, read: Callable[[], dict[str, str]], outcome: CallOutcome, *, origin: str
) -> Response:
    """Execute a call. *read* returns its fields; *outcome* receives the facts about it."""
    replies = Replies(api.options)
    try:
        form = filtered(read()) if api.options.input_filter else read()
        outcome.out_order_id = form.get("out_order_id", "")
        data = api.serve(endpoint, form, outcome, origin=origin)
    except CallRefusedError as refused:
        outcome.code, outcome.message = endpoint.refusals[refused.cause]
        outcome.reason, outcome.field = refused.cause.value, refused.field
    except MalformedFormError as error:
        outcome.code, outcome.message = endpoint.refusals[Cause.MISSING]
        outcome.reason, outcome.field = "malformed", str(error)
    else:
        outcome.code, outcome.message = SUCCESS, SUCCESS_TEXT
        LOGGER.debug("%s: %d", endpoint.path, SUCCESS)
        return replies.success(api.clock(), data)
    LOGGER.debug("%s: %d %s", endpoint.path, outcome.code, " ".join(filter(None, (outcome.reason, outcome.field))))
    return replies.refusal(outcome.code, outcome.message, api.clock())
