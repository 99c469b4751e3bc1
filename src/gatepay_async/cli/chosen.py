"""The shop that ``--profile`` or ``--env-file`` selects. Help and completion import this, so it imports little."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

KEY_VARIABLES = frozenset({"GATEPAY_APPKEY", "GATEPAY_APPSECRET", "GATEPAY_APPSECRET_FILE"})
_VARIABLE_PREFIX = "GATEPAY_"


class Chosen:
    """
    The choices of one run. This is a plain class because importing attrs would take longer than the rest.

    Attributes:
        profile: The value of ``--profile``, or empty.
        env_file: The value of ``--env-file``, or empty.
        credentials: The credentials, once ``settings.credentials()`` has chosen them.
    """

    def __init__(self) -> None:
        self.profile = ""
        self.env_file = ""
        self.credentials: Any = None


# A context variable, because tests run the command several times in one process.
_chosen: ContextVar[Chosen | None] = ContextVar("chosen", default=None)


def chosen() -> Chosen:
    """Return the choices of this run, which are empty by default."""
    return _chosen.get() or Chosen()


@contextmanager
def fresh_run() -> Generator[None]:
    """Start a run with no choices. At its end, restore the variables that an ``--env-file`` has set."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLE_PREFIX)}
    token = _chosen.set(Chosen())
    try:
        yield
    finally:
        _chosen.reset(token)
        for name in [name for name in os.environ if name.startswith(_VARIABLE_PREFIX)]:
            del os.environ[name]
        os.environ.update(before)


def choose_profile(name: str) -> None:
    """Use the credentials of the profile *name* instead of the environment's."""
    if name:
        chosen().profile = name


def choose_env_file(path: str) -> None:
    """Set the variables of the file at *path*. They replace those of the environment."""
    if path:
        from gatepay_async.cli.env_files import read_env_file

        path = os.path.expanduser(path)  # noqa: PTH111 -- Path.expanduser() raises where there is no home
        variables = read_env_file(path)
        if KEY_VARIABLES & variables.keys():  # don't combine an appkey from here with a secret from the environment
            for name in KEY_VARIABLES:
                os.environ.pop(name, None)
        if "GATEPAY_BASE_URL" in variables:  # orders for a sandbox must not reach the environment's cloud server
            os.environ.pop("GATEPAY_CLOUD_BASE_URL", None)
        os.environ.update(variables)
        chosen().env_file = path
