"""What a submission has found, as a job's own row holds it. Pure."""

from __future__ import annotations

from typing import Any

from attrs import asdict, field, frozen

from gatepay_async.durable.records import batches
from gatepay_async.durable.records.batches import DIGEST_BYTES, MAX_BATCHES, MAX_NAME_CHARS, Batch
from gatepay_async.durable.records.bounds import text_field, whole, whole_field
from gatepay_async.protocol.bulk import MOST_INVISIBLE
from gatepay_async.protocol.checks import MAX_KEYS_PER_CALL


def _few_lines(_: object, __: object, lines: tuple[int, ...]) -> None:
    whole(len(lines), most=MOST_INVISIBLE)
    for line in lines:
        whole(line)


@frozen
class JobManifest:
    """
    What a submission has found: the part of the ledger that no sending changes.

    Attributes:
        product_id: What the card keys are for.
        name: What the input was called, for people.
        read: Lines of the input.
        blank: Nothing in them but blanks.
        duplicates: The same card key stood further up.
        count: Card keys to send.
        batches: How many.
        size: Bytes in the spool.
        digest: Of all of them, by ``Digest``.
        refused: The batch, as it were, of the lines that can't be card keys; None if there are none.
        problems: Where the spool says what is wrong with them; likewise.
        invisible: Lines whose card key holds an invisible character, as in ``UploadReport``.
    """

    product_id: int = whole_field()
    name: str = text_field(MAX_NAME_CHARS)
    read: int = whole_field()
    blank: int = whole_field()
    duplicates: int = whole_field()
    count: int = whole_field()
    batches: int = whole_field(most=MAX_BATCHES)
    size: int = whole_field()
    digest: str = text_field(2 * DIGEST_BYTES)
    refused: Batch | None = None
    problems: Batch | None = None
    invisible: tuple[int, ...] = field(default=(), converter=tuple[int, ...], validator=_few_lines)

    def __attrs_post_init__(self) -> None:
        """Check that it adds up, or a report would not."""
        refused = 0 if self.refused is None else self.refused.count
        number = -(-self.count // (batches.CHUNKS_PER_BATCH * MAX_KEYS_PER_CALL))
        if (self.read, self.batches) != (self.blank + self.duplicates + refused + self.count, number):
            raise ValueError("does not add up")

    def to_row(self) -> dict[str, Any]:
        """For the database."""
        return {**asdict(self), "invisible": list(self.invisible)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> JobManifest:
        """From the database."""
        refused, problems = row["refused"], row["problems"]
        facts: dict[str, Any] = {**row, "refused": refused and Batch(**refused)}
        facts["problems"] = problems and Batch(**problems)
        return cls(**facts)
