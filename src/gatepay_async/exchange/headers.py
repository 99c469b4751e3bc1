"""The headers of every call."""

from __future__ import annotations

from typing import Final

import httpx

from gatepay_async.protocol.messages import CONTENT_TYPE
from gatepay_async.version import __version__

HEADERS: Final = httpx.Headers(
    {
        "accept": "application/json",
        "accept-encoding": "identity",  # replies are small, and a decompression bomb is impossible without compression
        "content-type": CONTENT_TYPE,
        "user-agent": f"gatepay-async/{__version__}",
    }
)
# The headers by HTTP method. A GET has no body, so it needs no content-type.
HEADERS_OF: Final = {
    "POST": HEADERS,
    "GET": httpx.Headers([(name, value) for name, value in HEADERS.items() if name != "content-type"]),
}
