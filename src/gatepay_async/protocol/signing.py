"""The signature, and the only file that reads the appsecret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence

from attrs import field, frozen

from gatepay_async.protocol.checks import cleaned, token
from gatepay_async.protocol.frames import sealed_init


@sealed_init
@frozen
class Credentials:
    """
    What a shop signs with. Spaces, line breaks and other invisible characters at the ends are left out.

    Attributes:
        appkey: Travels with every request.
        appsecret: Never travels, and is in no ``repr``.

    Raises:
        InvalidRequestError: One of them is no text, is empty, or holds an invisible character.
    """

    appkey: str = field(converter=cleaned, validator=token)
    appsecret: str = field(converter=cleaned, validator=token, repr=False)


def sign(credentials: Credentials, parts: Iterable[str]) -> str:
    """
    Sign *parts*, in the order given, for *credentials*.

    Args:
        credentials: The appkey is signed first.
        parts: Field values exactly as they are sent, the appkey left out.

    Returns:
        32 lower-case hex digits, over the UTF-8 bytes.
    """
    # 签名信息算法: sign = md5(md5(appkey + …) + appsecret). No separators: digits may slide from one
    # part into the next. parse_callback() closes that as far as the text allows; signing can't.
    inner = hashlib.md5("".join((credentials.appkey, *parts)).encode(), usedforsecurity=False).hexdigest()
    return hashlib.md5((inner + credentials.appsecret).encode(), usedforsecurity=False).hexdigest()


def is_signed(credentials: Credentials, parts: Iterable[str], signature: str) -> bool:
    """Whether *signature* is the one of *parts*; takes the same time whatever is wrong with it."""
    return hmac.compare_digest(sign(credentials, parts).encode(), signature.encode())


def is_signed_by_one(credentials: Iterable[Credentials], parts: Sequence[str], signature: str) -> bool:
    """Whether *signature* is the one of *parts* for one of *credentials*; which one, the time doesn't tell."""
    return any([is_signed(each, parts, signature) for each in credentials])  # noqa: C419 -- a list: all are compared
