"""
An async client for GatePay: create payments, upload card keys in bulk, verify callbacks.

Names are imported when they are first used, so that a program that only verifies callbacks doesn't have to wait for
the import of an HTTP client. (``if TYPE_CHECKING`` is for type checkers and editors.)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from gatepay_async.version import __version__

if TYPE_CHECKING:
    from gatepay_async.client import AsyncGatePay
    from gatepay_async.listing import CardKeyListing
    from gatepay_async.order_ids import new_out_order_id
    from gatepay_async.protocol.bulk import ChunkOutcome, Fate, UploadIncomplete, UploadProgress, UploadReport
    from gatepay_async.protocol.callback import parse_callback
    from gatepay_async.protocol.callback_errors import (
        CallbackError,
        CallbackSignatureError,
        MalformedCallbackError,
        StaleCallbackError,
    )
    from gatepay_async.protocol.errors import (
        AlreadyStoredError,
        AppKeyExpiredError,
        CallbackUrlMissingError,
        DeadlineExceededError,
        DuplicateKeysError,
        EmptyContentError,
        EndpointClosedError,
        GatePayError,
        InvalidAppKeyError,
        InvalidPageError,
        InvalidPayTypeError,
        InvalidPriceError,
        InvalidProductError,
        InvalidQuantityError,
        InvalidRequestError,
        LicenceExpiredError,
        MissingParameterError,
        NoPayTypeAvailableError,
        NotAnAgentError,
        OrderFailedError,
        OrderNotFoundError,
        OutcomeUnknownError,
        OutOfStockError,
        PayTypeClosedError,
        ProductNotFoundError,
        ProductUnavailableError,
        ProtocolError,
        QuotaExceededError,
        RefusedError,
        ShopNotFoundError,
        SignatureRejectedError,
        SingleItemOnlyError,
        StorageFailedError,
        TooManyKeysError,
        TransportError,
        UnexpectedParameterError,
        UnknownFailureError,
    )
    from gatepay_async.protocol.models import (
        Callback,
        CallbackReply,
        CardKey,
        CardKeyPage,
        Catalog,
        Category,
        OrderStatus,
        Payment,
        PaymentLink,
        PaymentReturn,
        PayType,
        Product,
        QrCode,
        Stored,
    )
    from gatepay_async.protocol.raw import RawReply
    from gatepay_async.protocol.retrying import RetryPolicy
    from gatepay_async.protocol.stock import StockAlert
    from gatepay_async.stock_watch import StockWatch
    from gatepay_async.words.arguments import InvalidArgumentError

__all__ = [
    "AlreadyStoredError",
    "AppKeyExpiredError",
    "AsyncGatePay",
    "Callback",
    "CallbackError",
    "CallbackReply",
    "CallbackSignatureError",
    "CallbackUrlMissingError",
    "CardKey",
    "CardKeyListing",
    "CardKeyPage",
    "Catalog",
    "Category",
    "ChunkOutcome",
    "DeadlineExceededError",
    "DuplicateKeysError",
    "EmptyContentError",
    "EndpointClosedError",
    "Fate",
    "GatePayError",
    "InvalidAppKeyError",
    "InvalidArgumentError",
    "InvalidPageError",
    "InvalidPayTypeError",
    "InvalidPriceError",
    "InvalidProductError",
    "InvalidQuantityError",
    "InvalidRequestError",
    "LicenceExpiredError",
    "MalformedCallbackError",
    "MissingParameterError",
    "NoPayTypeAvailableError",
    "NotAnAgentError",
    "OrderFailedError",
    "OrderNotFoundError",
    "OrderStatus",
    "OutOfStockError",
    "OutcomeUnknownError",
    "PayType",
    "PayTypeClosedError",
    "Payment",
    "PaymentLink",
    "PaymentReturn",
    "Product",
    "ProductNotFoundError",
    "ProductUnavailableError",
    "ProtocolError",
    "QrCode",
    "QuotaExceededError",
    "RawReply",
    "RefusedError",
    "RetryPolicy",
    "ShopNotFoundError",
    "SignatureRejectedError",
    "SingleItemOnlyError",
    "StaleCallbackError",
    "StockAlert",
    "StockWatch",
    "StorageFailedError",
    "Stored",
    "TooManyKeysError",
    "TransportError",
    "UnexpectedParameterError",
    "UnknownFailureError",
    "UploadIncomplete",
    "UploadProgress",
    "UploadReport",
    "__version__",
    "new_out_order_id",
    "parse_callback",
]

# The module that defines each name. The names that are missing here are in protocol.errors.
_MODULE_OF = {
    "AsyncGatePay": "client",
    "new_out_order_id": "order_ids",
    "CardKeyListing": "listing",
    "ChunkOutcome": "protocol.bulk",
    "Fate": "protocol.bulk",
    "UploadIncomplete": "protocol.bulk",
    "UploadProgress": "protocol.bulk",
    "UploadReport": "protocol.bulk",
    "parse_callback": "protocol.callback",
    "CallbackError": "protocol.callback_errors",
    "CallbackSignatureError": "protocol.callback_errors",
    "MalformedCallbackError": "protocol.callback_errors",
    "StaleCallbackError": "protocol.callback_errors",
    "Callback": "protocol.models",
    "CallbackReply": "protocol.models",
    "CardKey": "protocol.models",
    "CardKeyPage": "protocol.models",
    "Catalog": "protocol.models",
    "Category": "protocol.models",
    "OrderStatus": "protocol.models",
    "Payment": "protocol.models",
    "PaymentLink": "protocol.models",
    "PaymentReturn": "protocol.models",
    "PayType": "protocol.models",
    "Product": "protocol.models",
    "QrCode": "protocol.models",
    "Stored": "protocol.models",
    "RawReply": "protocol.raw",
    "RetryPolicy": "protocol.retrying",
    "StockAlert": "protocol.stock",
    "StockWatch": "stock_watch",
    "InvalidArgumentError": "words.arguments",
}

if not TYPE_CHECKING:  # otherwise, type checkers would accept any name

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used (PEP 562)."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_MODULE_OF.get(name, 'protocol.errors')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return __all__
