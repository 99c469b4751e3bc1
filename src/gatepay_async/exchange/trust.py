"""Which certificates to trust: those that SSL_CERT_FILE or SSL_CERT_DIR name, or else certifi's."""

from __future__ import annotations

import os
import re
import ssl
from functools import cache
from pathlib import Path

import httpx

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

# How OpenSSL looks a certificate up in a folder: by the hash of its subject (`openssl rehash`).
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def trusted(*, trust_env: bool = True) -> ssl.SSLContext:
    """
    A TLS context, made once for all clients. Reads files for some 26 ms: call it from a thread.

    Raises:
        InvalidRequestError: A variable names nothing that holds certificates; ``.field`` is the variable.
    """
    named = [os.environ.get(variable, "") if trust_env else "" for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR")]
    return _context(*named, trust_env)


@cache
def _context(file: str, folders: str, trust_env: bool) -> ssl.SSLContext:  # noqa: FBT001 -- part of the cache's key
    problem = None
    if file:
        problem = _file_problem(file)
    elif folders:
        problem = _folders_problem(folders)
    if problem:
        raise InvalidRequestError(field="SSL_CERT_FILE" if file else "SSL_CERT_DIR", problem=problem)
    return httpx.create_ssl_context(trust_env=trust_env)


def count_certificates(context: ssl.SSLContext) -> int:
    """How many certificates *context* trusts, those in SSL_CERT_DIR included, which are read when they are needed."""
    folders = os.environ.get("SSL_CERT_DIR", "") if not os.environ.get("SSL_CERT_FILE") else ""
    return context.cert_store_stats()["x509"] + (_count_hashed(folders) if folders else 0)


def _count_hashed(folders: str) -> int:
    """How many certificates OpenSSL can find in *folders*; it reads them when it needs them."""
    return sum(
        1 for each in folders.split(os.pathsep) if Path(each).is_dir() for one in Path(each).iterdir()
        if _HASHED.fullmatch(one.name)
    )  # fmt: skip


def _file_problem(path: str) -> Problem | None:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:  # an OSError, too: the file is there
        return Problem("certificates_none", path=path)
    except OSError as error:
        return Problem("certificates_unreadable", path=path, reason=error.strerror)
    return None if context.cert_store_stats()["x509"] else Problem("certificates_none", path=path)


def _folders_problem(folders: str) -> Problem | None:
    try:
        if _count_hashed(folders):
            return None
    except OSError as error:
        return Problem("certificates_unreadable", path=folders, reason=error.strerror)
    if not any(Path(each).is_dir() for each in folders.split(os.pathsep)):
        return Problem("certificates_no_folder", path=folders)
    return Problem("certificates_unhashed", path=folders, folder=folders)
