"""The signature. This is the only file that reads the appsecret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from gatepay_async.protocol.checks import cleaned, token
from gatepay_async.protocol.frames import scrub_init_errors


@scrub_init_errors
@frozen
class Credentials:
    """
    A shop's appkey and appsecret. Blanks and invisible characters at their ends are stripped.

    Attributes:
        appkey: Is sent with every request.
        appsecret: Is never sent, and is in no ``repr``.

    Raises:
        InvalidRequestError: One of them is not a text, is empty, or holds an invisible character.
    """

    appkey: str = field(converter=cleaned, validator=token)
    appsecret: str = field(converter=cleaned, validator=token, repr=False)


def sign(credentials: Credentials, parts: Iterable[str]) -> str:
    """
    Sign *parts*, in the order given, for *credentials*.

    Args:
        credentials: The credentials. The appkey is signed before the parts.
        parts: The values of the signed fields exactly as they are sent, without the appkey.

    Returns:
        32 lower-case hex digits. Texts are signed as UTF-8.
    """
    # Signature (签名信息算法): md5(md5(appkey + …) + appsecret). There are no separators, so digits can be moved
    # between neighbouring parts without changing the signature. parse_callback() detects this as far as it can.
    inner = hashlib.md5("".join((credentials.appkey, *parts)).encode(), usedforsecurity=False).hexdigest()
    return hashlib.md5((inner + credentials.appsecret).encode(), usedforsecurity=False).hexdigest()


def is_signed(credentials: Credentials, parts: Iterable[str], signature: str) -> bool:
    """Whether *signature* is that of *parts*. The check takes the same time for every wrong signature."""
    return hmac.compare_digest(sign(credentials, parts).encode(), signature.encode())


def is_signed_by_one(credentials: Iterable[Credentials], parts: Sequence[str], signature: str) -> bool:
    """Whether *signature* is that of *parts* with any of *credentials*. The time doesn't reveal with which one."""
    return any([is_signed(candidate, parts, signature) for candidate in credentials])  # noqa: C419 -- compare with all
