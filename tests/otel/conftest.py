"""Fixtures for the tests of telemetry."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from telemetry_exported import Exported


@pytest.fixture
def exported() -> "Iterator[Exported]":
    """Create telemetry providers for one test, and record what they export."""
    from telemetry_exported import Exported  # noqa: PLC0415 -- large

    exported = Exported()
    yield exported
    exported.tracer_provider.shutdown()
    exported.meter_provider.shutdown()
