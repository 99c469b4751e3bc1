"""The vendor's signature, computed the server's way: md5 over md5, compared in constant time."""

import hmac
from collections.abc import Iterable
from hashlib import md5

__all__ = ["is_signed", "signature"]


def signature(appkey: str, appsecret: str, parts: Iterable[str]) -> str:
    """
    Compute ``md5(md5(appkey + part + part + …) + appsecret)``.

    Args:
        appkey: The shop's public name.
        appsecret: The shop's secret.
        parts: The fields' texts as they travelled, in the endpoint's signed order, the appkey left out.

    Returns:
        32 lower-case hex digits, over the UTF-8 bytes.
    """
    return _hex(_hex(appkey + "".join(parts)) + appsecret)


def is_signed(sign: str, appkey: str, appsecret: str, parts: Iterable[str]) -> bool:
    """Say whether *sign* is the signature of *parts*; takes the same time for every wrong one."""
    return hmac.compare_digest(sign.encode(), signature(appkey, appsecret, parts).encode())


def _hex(text: str) -> str:
    return md5(text.encode()).hexdigest()  # noqa: S324 -- md5 is the vendor's choice
