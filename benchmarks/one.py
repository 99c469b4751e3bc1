"""Run one benchmark in this process; print its result as the last line, in JSON. `benchmarks.run` starts it."""

import argparse
import importlib
import json

import attrs

# Modules of this folder, in the order of the table of results.
BENCHMARKS = (
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
    """Run the benchmark and print its result."""
    parser = argparse.ArgumentParser(description="Runs one benchmark.")
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    result = importlib.import_module(f"benchmarks.{options.benchmark}").measure(quick=options.quick)
    print(json.dumps(attrs.asdict(result)))


if __name__ == "__main__":
    main()
