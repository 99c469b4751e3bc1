"""Executes calls on the database. The methods block, so the ASGI application runs them in threads."""

from collections.abc import Callable

from attrs import define, frozen

from gatepay_async.sandbox import orders
from gatepay_async.sandbox.database import SandboxDatabase
from gatepay_async.sandbox.endpoint import CallContext, Endpoint, FormFields
from gatepay_async.sandbox.events import CallOutcome
from gatepay_async.sandbox.options import Options

__all__ = ["ApiService", "Paging"]


@define
class Paging:
    """The number of rows on a page of card keys, which may change at any time."""

    per_page: int


@frozen(kw_only=True)
class ApiService:
    """
    The API of one sandbox.

    Attributes:
        database: Holds shops, card keys and orders.
        clock: Returns the sandbox's time, in epoch seconds.
        paging: The page size of ``ka/show``.
        options: The sandbox's switches.
    """

    database: SandboxDatabase
    clock: Callable[[], float]
    paging: Paging
    options: Options

    def serve(self, endpoint: Endpoint, form: FormFields, outcome: CallOutcome, *, origin: str) -> object:
        """
        Execute one call.

        Args:
            endpoint: The endpoint that is called.
            form: The received fields.
            outcome: Records facts about the call, for events.
            origin: Scheme, host and port, for the URL of the payment page.

        Returns:
            The value of ``data`` in the reply.

        Raises:
            CallRefusedError: The call is refused. Nothing was written.
        """
        now = self.clock()
        with self.database.transaction() as connection:
            orders.expire_overdue(connection, now=now)
            context = CallContext(
                connection=connection,
                now=int(now),
                origin=origin,
                per_page=self.paging.per_page,
                expires=None if self.options.expires_after is None else now + self.options.expires_after,
                options=self.options,
                outcome=outcome,
            )
            return endpoint.answer(context, form)
