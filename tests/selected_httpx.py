"""The httpx of users' own clients and transports: httpx, or httpx2 if GATEPAY_TEST_HTTPX says so."""

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx
else:
    httpx = importlib.import_module(os.environ.get("GATEPAY_TEST_HTTPX", "httpx"))

__all__ = ["httpx"]
