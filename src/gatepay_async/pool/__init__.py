"""The connection pool: `slots` assigns connections, `port` defines a connection, `transport` is the httpx transport."""

from gatepay_async.pool.port import PoolClosedError
from gatepay_async.pool.transport import OriginPool

__all__ = ["OriginPool", "PoolClosedError"]
