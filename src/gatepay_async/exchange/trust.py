"""The trusted certificates: those of SSL_CERT_FILE or SSL_CERT_DIR, or else certifi's."""

from __future__ import annotations

import os
import re
import ssl
from functools import cache
from pathlib import Path

import httpx

from gatepay_async.protocol.errors import InvalidRequestError
from gatepay_async.words.problem import Problem

# OpenSSL finds a certificate in a folder by its file name: a hash of its subject (`openssl rehash` creates it).
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def trusted(*, trust_env: bool = True) -> ssl.SSLContext:
    """
    Return a TLS context. Clients with the same environment share it.

    The first call reads files, which takes some 26 ms. So call this in a thread.

    Raises:
        InvalidRequestError: A variable names a file or folder without certificates. ``.field`` is the variable.
    """
    paths = [os.environ.get(variable, "") if trust_env else "" for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR")]
    return _context(*paths, trust_env)


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
    """Count the certificates that *context* trusts, including those in SSL_CERT_DIR, which OpenSSL loads lazily."""
    folders = os.environ.get("SSL_CERT_DIR", "") if not os.environ.get("SSL_CERT_FILE") else ""
    return context.cert_store_stats()["x509"] + (_count_hashed(folders) if folders else 0)


def _count_hashed(folders: str) -> int:
    """Count the certificates that OpenSSL can find in *folders*."""
    return sum(
        1 for folder in folders.split(os.pathsep) if Path(folder).is_dir() for file in Path(folder).iterdir()
        if _HASHED_NAME.fullmatch(file.name)
    )  # fmt: skip


def _file_problem(path: str) -> Problem | None:
    """Return why SSL_CERT_FILE can't be used, or None."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:  # before OSError, which is its base class
        return Problem("certificates_none", path=path)
    except OSError as error:
        return Problem("certificates_unreadable", path=path, reason=error.strerror)
    return None if context.cert_store_stats()["x509"] else Problem("certificates_none", path=path)


def _folders_problem(folders: str) -> Problem | None:
    """Return why SSL_CERT_DIR can't be used, or None."""
    try:
        if _count_hashed(folders):
            return None
    except OSError as error:
        return Problem("certificates_unreadable", path=folders, reason=error.strerror)
    if not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        return Problem("certificates_no_folder", path=folders)
    return Problem("certificates_unhashed", path=folders, folder=folders)
