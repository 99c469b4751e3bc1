"""The error of an upload, apart from its report: the catalogue of errors doesn't need the report's classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatepay_async.protocol.errors import GatePayError

if TYPE_CHECKING:
    from gatepay_async.protocol.bulk import UploadReport


class UploadIncomplete(GatePayError):  # noqa: N818 -- the contract's name: a report to act on, not a fault
    """
    Some card keys of an upload are not known to be on the server.

    Attributes:
        report: The whole report; ``report.chunks`` has the lines and their card keys.
    """

    def __init__(self, report: UploadReport) -> None:
        self.report = report
        super().__init__(
            f"{report.refused} refused, {report.unknown} unknown, {report.not_sent} not sent "
            f"(of {report.read} lines; {report.stored} stored, {report.already_there} there already). "
            f"Uploading the same input again is safe: GatePay keeps one copy of each card key.",
        )
