"""``gatepay sandbox``: runs the sandbox until Ctrl-C, and prints a line for each call and callback."""

from __future__ import annotations

import asyncio
import math
import os
import sqlite3
import sys
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Never, cast

import anyio
from attrs import asdict, frozen

from gatepay_async.cli import env_files
from gatepay_async.cli.extras import require_extra
from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import name_value_table, print_line, print_table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.words import say
from gatepay_async.words.pages import PAGES
from gatepay_async.words.problem import os_reason

if TYPE_CHECKING:
    from gatepay_async.sandbox import CallEvent, DeliveryEvent, Sandbox
    from gatepay_async.sandbox.events import SandboxEvent

DEFAULT_PORT = 8765
_SUCCESS = 100  # the code of a successful reply
_MAX_FIELD_CHARS = 60  # of a text from outside, such as an order number


@frozen
class Settings:
    """
    The options of the command.

    Attributes:
        port: The port. None: the default port, or any free one if that is in use.
        env_file: The file to write the variables to, or empty.
        shell: The shell for which to print lines that set the variables; empty: the user's.
    """

    database: str
    port: int | None
    callback_url: str
    env_file: str
    force: bool
    shell: str
    quiet: bool


async def serve(settings: Settings) -> Status:
    """Run the sandbox until Ctrl-C."""
    if settings.env_file:
        env_files.check_env_file(settings.env_file, force=settings.force)
    with require_extra("sandbox"):
        from gatepay_async.sandbox import CallbackUrlError, LaterVersionError, PortTakenError, Sandbox
    try:
        with Sandbox(settings.database, callback_url=settings.callback_url or None) as sandbox:
            async with AsyncExitStack() as stack:
                return await _print_until_cancelled(
                    sandbox, await _start_serving(sandbox, settings.port, stack), settings
                )
    except PortTakenError as error:
        reason = os_reason(cast("OSError", error.__cause__))
        raise HaltError(
            text("sandbox.port_taken", port=error.port, reason=reason), todo=text("sandbox.port_taken.todo")
        ) from None
    except CallbackUrlError as error:
        raise HaltError(text("sandbox.callback_bad", reason=error.problem)) from None
    except LaterVersionError:
        raise HaltError(text("sandbox.later", path=settings.database), todo=text("sandbox.later.todo")) from None
    except sqlite3.Error as error:
        raise HaltError(text("sandbox.database_bad", path=settings.database, reason=error)) from None


async def _start_serving(sandbox: Sandbox, port: int | None, stack: AsyncExitStack) -> str:
    """Serve on *port*, or on the default or a free one, until *stack* closes. Return the base URL."""
    from gatepay_async.sandbox import PortTakenError

    try:
        return await stack.enter_async_context(sandbox.serve(port=DEFAULT_PORT if port is None else port))
    except PortTakenError:
        if port is not None:
            raise
    return await stack.enter_async_context(sandbox.serve())


async def _print_until_cancelled(sandbox: Sandbox, base_url: str, settings: Settings) -> Never:
    """Print how to reach the sandbox, then each event, until cancelled."""
    send, receive = anyio.create_memory_object_stream["SandboxEvent"](math.inf)
    loop = asyncio.get_running_loop()
    if not settings.quiet:
        sandbox.watch(lambda event: loop.call_soon_threadsafe(send.send_nowait, event))
    _print_settings(sandbox, base_url, settings)
    with send, receive:
        while True:
            _print_event(await receive.receive())


def _print_settings(sandbox: Sandbox, base_url: str, settings: Settings) -> None:
    """Print the sandbox's URL and variables. The appsecret is not confidential: it is random and valid only here."""
    from gatepay_async.sandbox.shells import setting_lines

    appkey, appsecret = sandbox.shops[0]
    variables = variables_of(appkey, appsecret, base_url)
    console = base_url.removesuffix("api/")
    if settings.env_file:
        env_files.write_env_file(settings.env_file, variables)
    if wants_json():
        print_json(base_url=base_url, console=console, database=settings.database, appkey=appkey, appsecret=appsecret)
        return
    database = settings.database
    where = text("sandbox.memory") if database == ":memory:" else escape(database)
    print_table(name_value_table([(text("sandbox.console"), console), (text("sandbox.database_at"), where)]))
    if settings.port is None and f":{DEFAULT_PORT}/" not in base_url:
        print_line(text("sandbox.other_port", port=DEFAULT_PORT))
    if settings.env_file:
        print_line(text("sandbox.env_file", path=escape(settings.env_file)))
    else:
        print_line(text("sandbox.set"))
        for line in setting_lines(settings.shell or guess_shell(), variables):
            print_line(f"  {line}", unwrapped=True)  # the user copies it
    print_line(text("sandbox.until"))


def variables_of(appkey: str, appsecret: str, base_url: str) -> dict[str, str]:
    """Return the environment variables for a program that uses the sandbox, also for cloud payments."""
    return {
        "GATEPAY_APPKEY": appkey,
        "GATEPAY_APPSECRET": appsecret,
        "GATEPAY_BASE_URL": base_url,
        "GATEPAY_CLOUD_BASE_URL": base_url,
    }


def guess_shell() -> str:
    """Guess the user's shell from the environment."""
    if os.name == "nt":
        return "cmd" if "PROMPT" in os.environ else "powershell"  # only cmd sets PROMPT
    name = os.environ.get("SHELL", "").rpartition("/")[2]
    return {"fish": "fish", "pwsh": "powershell"}.get(name, "sh")


def _print_event(event: SandboxEvent) -> None:
    kind = "call" if hasattr(event, "endpoint") else "callback"
    if wants_json():
        at = datetime.fromtimestamp(event.at).astimezone().isoformat(timespec="milliseconds")
        print_json(event=kind, **{**asdict(event), "at": at})
        return
    line, style = _call_line(event) if kind == "call" else _callback_line(event)  # type: ignore[arg-type]  # by kind
    dot, arrow = _dot_and_arrow()
    clock = datetime.fromtimestamp(event.at).astimezone().strftime("%H:%M:%S")
    print_line(f"{clock} {arrow + ' ' if kind == 'callback' else ''}{f' {dot} '.join(line)}", style=style)


def _call_line(event: CallEvent) -> tuple[list[str], str]:
    """Return the parts and the style of a line such as ``18:02:11 ka/create 100 · 500 keys · 12 ms``."""
    parts = [f"{event.endpoint} {text('seen.no_answer') if event.code is None else event.code}"]
    style = "" if event.code == _SUCCESS else "yellow"
    if event.out_order_id:
        parts.append(_short(event.out_order_id))
    if event.card_keys is not None:
        parts.append(text("seen.key" if event.card_keys == 1 else "seen.keys", count=f"{event.card_keys:,}"))
    if event.reason:
        parts.append(text(f"seen.{event.reason}", field=_short(event.field)))
    if event.fault:
        parts.append(text("seen.fault", kind=event.fault))
        style = "magenta"
    return [*parts, text("seen.ms", ms=f"{event.milliseconds:,.0f}")], style


def _callback_line(event: DeliveryEvent) -> tuple[list[str], str]:
    """Return the parts and the style of a line such as ``18:02:12 → order 12 · 200 success``."""
    parts: list[str] = [text("seen.order", number=event.order_id)]
    if event.attempt > 1:
        parts.append(text("seen.attempt", number=event.attempt))
    if event.status is not None:
        parts.append(f"{event.status} {_short(event.answer or '')}".rstrip())
    if event.problem is not None:
        parts.append(say(PAGES[event.problem], current_language()))
    return parts, "green" if event.problem is None else "red"


def _short(message: str) -> str:
    """Shorten a text from outside, and escape it for the terminal."""
    escaped = escape(message)
    return escaped if len(escaped) <= _MAX_FIELD_CHARS else f"{escaped[: _MAX_FIELD_CHARS - 3]}..."


def _dot_and_arrow() -> tuple[str, str]:
    """Return a dot and an arrow, or similar characters in ASCII if the terminal can't show them."""
    characters = ("·", "→")
    try:
        "".join(characters).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "-", "->"
    return characters
