"""The connection pool: `slots` decides, `stream` reaches the network, `transport` joins them for httpx."""

from gatepay_async.pool.transport import OriginPool, PoolClosedError

__all__ = ["OriginPool", "PoolClosedError"]
