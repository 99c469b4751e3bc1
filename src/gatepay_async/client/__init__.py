"""
The client. ``gatepay`` has ``AsyncGatePay``; its methods are in ``payments``, ``card_keys``, ``queries`` and ``base``.

The methods that send a call use ``caller``, which retries the call where that is safe.
"""

from gatepay_async.client.gatepay import BASE_URL, CLOUD_BASE_URL, AsyncGatePay

__all__ = ["BASE_URL", "CLOUD_BASE_URL", "AsyncGatePay"]
