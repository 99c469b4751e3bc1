"""The connection pool: `slots` assigns connections, `port` defines a connection, `transport` is the httpx transport."""

from gatepay_async.pool.transport import OriginPool, PoolClosedError

__all__ = ["OriginPool", "PoolClosedError"]
