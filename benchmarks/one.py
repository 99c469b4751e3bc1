"""One figure, in this process; what it found is the last line of standard output. `benchmarks.run` starts it."""

import argparse
import importlib
import json

import attrs

# Modules of this folder, in the order of the table.
FIGURES = (
    "throughput",
    "burst",
    "churn",
    "overhead",
    "telemetry",
    "decode",
    "upload",
    "auto",
    "walk",
    "dedup",
    "memory",
    "resting",
    "imports",
    "cli_start",
    "choosing",
    "callbacks",
    "export",
    "files",
)


def main() -> None:
    """Measure, and say what was found."""
    parser = argparse.ArgumentParser(description="Measures one figure.")
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    found = importlib.import_module(f"benchmarks.{given.figure}").measure(quick=given.quick)
    print(json.dumps(attrs.asdict(found)))


if __name__ == "__main__":
    main()
