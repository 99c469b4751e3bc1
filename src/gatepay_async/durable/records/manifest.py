"""``JobManifest``: the facts about a submitted input, stored in the job's row. No I/O; doesn't read the clock."""

from __future__ import annotations

from typing import Any

from attrs import asdict, field, frozen

from gatepay_async.durable.records import batches
from gatepay_async.durable.records.batches import DIGEST_BYTES, MAX_BATCHES, MAX_NAME_CHARS, Batch
from gatepay_async.durable.records.bounds import check_number, number_field, text_field
from gatepay_async.protocol.bulk import MAX_INVISIBLE_LINES
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL


def _validate_lines(_: object, __: object, lines: tuple[int, ...]) -> None:
    check_number(len(lines), maximum=MAX_INVISIBLE_LINES)
    for line in lines:
        check_number(line)


@frozen
class JobManifest:
    """
    The facts about a submitted input: the part of the report that sending doesn't change.

    Attributes:
        product_id: The product that the card keys belong to.
        name: The name of the input, to show to people.
        read: Lines of the input.
        blank: Lines without visible characters.
        duplicates: Lines that repeat an earlier card key.
        count: Card keys to send.
        batches: The number of batches.
        size: The size of the spool file in bytes.
        digest: The ``keyed_digest()`` of the spool file, in hexadecimal.
        refused: Where the spool file has the lines that can't be card keys; None: there are none.
        problems: Where the spool file has the problems of those lines; None: there are none.
        invisible: Lines whose card key holds an invisible character, as in ``UploadReport``.
    """

    product_id: int = number_field()
    name: str = text_field(MAX_NAME_CHARS)
    read: int = number_field()
    blank: int = number_field()
    duplicates: int = number_field()
    count: int = number_field()
    batches: int = number_field(maximum=MAX_BATCHES)
    size: int = number_field()
    digest: str = text_field(2 * DIGEST_BYTES)
    refused: Batch | None = None
    problems: Batch | None = None
    invisible: tuple[int, ...] = field(default=(), converter=tuple[int, ...], validator=_validate_lines)

    def __attrs_post_init__(self) -> None:
        """Check that the numbers add up, because those of the report must."""
        refused = 0 if self.refused is None else self.refused.count
        batches_needed = -(-self.count // (batches.CHUNKS_PER_BATCH * MAX_KEYS_PER_CALL))
        if (self.read, self.batches) != (self.blank + self.duplicates + refused + self.count, batches_needed):
            raise ValueError("does not add up")

    def to_row(self) -> dict[str, Any]:
        """Convert to the row that the database stores."""
        return {**asdict(self), "invisible": list(self.invisible)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> JobManifest:
        """
        Convert from the row that the database stores.

        Raises:
            ValueError, TypeError, LookupError: No version of this package wrote such a row.
        """
        refused, problems = row["refused"], row["problems"]
        values: dict[str, Any] = {**row, "refused": refused and Batch(**refused)}
        values["problems"] = problems and Batch(**problems)
        return cls(**values)
