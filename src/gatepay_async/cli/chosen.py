"""Which shop the command line names, with ``--profile`` or ``--env-file``. Light, as help and completion import it."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

KEY_VARIABLES = frozenset({"GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_APPSECRET_FILE"})
_PREFIX = "GATEPAY_"


class Chosen:
    """
    What the command line says, and what came of it. A plain class: attrs takes longer to import than all of this.

    Attributes:
        profile: Of ``--profile``, or empty.
        env_file: Of ``--env-file``, or empty.
        source: Where the key comes from, once that has been looked up.
    """

    def __init__(self) -> None:
        self.profile = ""
        self.env_file = ""
        self.source: Any = None


# Where the command is run several times in one process, each run has its own.
_chosen: ContextVar[Chosen | None] = ContextVar("chosen", default=None)


def chosen() -> Chosen:
    """What this run's command line says; nothing, where there is none."""
    return _chosen.get() or Chosen()


@contextmanager
def fresh_run() -> Generator[None]:
    """Begin with nothing chosen; at the end take back the variables that an ``--env-file`` has set."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_PREFIX)}
    token = _chosen.set(Chosen())
    try:
        yield
    finally:
        _chosen.reset(token)
        for name in [name for name in os.environ if name.startswith(_PREFIX)]:
            del os.environ[name]
        os.environ.update(before)


def choose_profile(name: str) -> None:
    """Take the key from that profile, whatever the environment says."""
    if name:
        chosen().profile = name


def choose_env_file(path: str) -> None:
    """Set the variables of that file, in place of the environment's own."""
    if path:
        from gatepay_async.cli.env_files import read_env_file

        path = os.path.expanduser(path)  # noqa: PTH111 -- Path.expanduser() raises where there is no home
        variables = read_env_file(path)
        if KEY_VARIABLES & variables.keys():  # half a key of the environment's would be another shop's
            for name in KEY_VARIABLES:
                os.environ.pop(name, None)
        if "GATEPAY_BASE_URL" in variables:  # nor may orders of a sandbox reach the environment's cloud
            os.environ.pop("GATEPAY_CLOUD_BASE_URL", None)
        os.environ.update(variables)
        chosen().env_file = path
