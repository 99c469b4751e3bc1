"""What the tests of telemetry ask for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from telemetry_exported import Exported


@pytest.fixture
def exported() -> "Iterator[Exported]":
    """Providers of this test alone, and what they export."""
    from telemetry_exported import Exported  # noqa: PLC0415 -- large

    exported = Exported()
    yield exported
    exported.tracer_provider.shutdown()
    exported.meter_provider.shutdown()
