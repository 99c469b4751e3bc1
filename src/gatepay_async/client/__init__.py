"""
The client. ``gatepay`` has ``AsyncGatePay``; its methods are in ``payments``, ``card_keys``, ``queries`` and ``base``.

All that send end in ``caller``, which makes one attempt after the other until the call is answered.
"""

from gatepay_async.client.gatepay import BASE_URL, CLOUD_BASE_URL, AsyncGatePay

__all__ = ["BASE_URL", "CLOUD_BASE_URL", "AsyncGatePay"]
