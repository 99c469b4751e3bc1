"""``gatepay sandbox``: GatePay's other end on this machine, until Ctrl-C."""

import sqlite3

import anyio

from gatepay_async.cli.extras import needing
from gatepay_async.cli.language import say
from gatepay_async.cli.output import emit, plain, wants_json
from gatepay_async.cli.screens import facts, line, show
from gatepay_async.cli.status import HaltError, Status


async def serve(database: str, port: int, callback_url: str) -> Status:
    """Serve until Ctrl-C, which is how it is meant to end."""
    with needing("sandbox"):
        from gatepay_async.sandbox import CallbackUrlError, LaterVersionError, PortTakenError, Sandbox
    try:
        with Sandbox(database, callback_url=callback_url or None) as sandbox:
            async with sandbox.serve(port=port) as base_url:
                appkey, appsecret = sandbox.shops[0]
                _tell(base_url, database, appkey, appsecret)
                try:
                    await anyio.sleep_forever()
                finally:
                    _tell_end()
                return Status.DONE
    except PortTakenError as error:
        raise HaltError(
            say("sandbox.port_taken", port=port, reason=error.reason), todo=say("sandbox.port_taken.todo")
        ) from None
    except CallbackUrlError as error:
        raise HaltError(say(f"sandbox.{error.problem}")) from None
    except LaterVersionError:
        raise HaltError(say("sandbox.later", path=database), todo=say("sandbox.later.todo")) from None
    except sqlite3.Error as error:
        raise HaltError(say("sandbox.database_bad", path=database, reason=error)) from None


def _tell_end() -> None:
    if not wants_json():
        line(say("sandbox.ended"))


def _tell(base_url: str, database: str, appkey: str, appsecret: str) -> None:
    """Where it is, and what to set: its secret was made up for it, and opens nothing else."""
    variables = {"GATEPAY_BASE_URL": base_url, "GATEPAY_APPKEY": appkey, "GATEPAY_APPSECRET": appsecret}
    console = base_url.removesuffix("api/")
    if wants_json():
        emit(base_url=base_url, console=console, database=database, appkey=appkey, appsecret=appsecret)
        return
    where = say("sandbox.memory") if database == ":memory:" else plain(database)
    show(facts([(say("sandbox.console"), console), (say("sandbox.database_at"), where)]))
    line(say("sandbox.set"))
    for name, value in variables.items():
        line(f"  export {name}={value}")
    line(say("sandbox.until"))
