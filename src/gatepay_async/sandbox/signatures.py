"""The vendor's signature: a double md5, compared in constant time."""

import hmac
from collections.abc import Iterable
from hashlib import md5

__all__ = ["is_signed", "signature"]


def signature(appkey: str, appsecret: str, parts: Iterable[str]) -> str:
    """
    Compute ``md5(md5(appkey + part + part + …) + appsecret)``.

    Args:
        appkey: The shop's appkey.
        appsecret: The shop's appsecret.
        parts: The texts of the signed fields as they were sent, in the endpoint's order, without the appkey.

    Returns:
        32 lower-case hex digits. Texts are signed as UTF-8.
    """
    return _md5_hex(_md5_hex(appkey + "".join(parts)) + appsecret)


def is_signed(sign: str, appkey: str, appsecret: str, parts: Iterable[str]) -> bool:
    """Return whether *sign* is the signature of *parts*. It takes the same time for every wrong signature."""
    return hmac.compare_digest(sign.encode(), signature(appkey, appsecret, parts).encode())


def _md5_hex(text: str) -> str:
    return md5(text.encode()).hexdigest()  # noqa: S324 -- md5 is the vendor's choice
