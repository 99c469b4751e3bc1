"""``gatepay sandbox``: GatePay's other end on this machine, until Ctrl-C."""

import sqlite3

import anyio

from gatepay_async.cli.extras import require_extra
from gatepay_async.cli.language import current_language, text
from gatepay_async.cli.output import escape, print_json, wants_json
from gatepay_async.cli.screens import facts, print_line, print_table
from gatepay_async.cli.status import HaltError, Status
from gatepay_async.words import say
from gatepay_async.words.pages import PAGES


async def serve(database: str, port: int, callback_url: str) -> Status:
    """Serve until Ctrl-C, which is how it is meant to end."""
    with require_extra("sandbox"):
        from gatepay_async.sandbox import CallbackUrlError, LaterVersionError, PortTakenError, Sandbox
    try:
        with Sandbox(database, callback_url=callback_url or None) as sandbox:
            async with sandbox.serve(port=port) as base_url:
                appkey, appsecret = sandbox.shops[0]
                _print_settings(base_url, database, appkey, appsecret)
                try:
                    await anyio.sleep_forever()
                finally:
                    _print_end()
                return Status.DONE
    except PortTakenError as error:
        raise HaltError(
            text("sandbox.port_taken", port=port, reason=error.reason), todo=text("sandbox.port_taken.todo")
        ) from None
    except CallbackUrlError as error:
        reason = say(PAGES[error.problem], current_language())
        raise HaltError(text("sandbox.callback_bad", reason=reason)) from None
    except LaterVersionError:
        raise HaltError(text("sandbox.later", path=database), todo=text("sandbox.later.todo")) from None
    except sqlite3.Error as error:
        raise HaltError(text("sandbox.database_bad", path=database, reason=error)) from None


def _print_end() -> None:
    if not wants_json():
        print_line(text("sandbox.ended"))


def _print_settings(base_url: str, database: str, appkey: str, appsecret: str) -> None:
    """Where it is, and what to set: its secret was made up for it, and opens nothing else."""
    variables = {
        "GATEPAY_BASE_URL": base_url,
        "GATEPAY_CLOUD_BASE_URL": base_url,
        "GATEPAY_APPKEY": appkey,
        "GATEPAY_APPSECRET": appsecret,
    }
    console = base_url.removesuffix("api/")
    if wants_json():
        print_json(base_url=base_url, console=console, database=database, appkey=appkey, appsecret=appsecret)
        return
    where = text("sandbox.memory") if database == ":memory:" else escape(database)
    print_table(facts([(text("sandbox.console"), console), (text("sandbox.database_at"), where)]))
    print_line(text("sandbox.set"))
    for name, value in variables.items():
        print_line(f"  export {name}={value}")
    print_line(text("sandbox.until"))
