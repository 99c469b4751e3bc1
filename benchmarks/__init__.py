"""
What is fast, measured beside what a user would write instead.

    python -m benchmarks.run               every figure, the table and the pictures
    python -m benchmarks.run throughput    one of them
    python -m benchmarks.soak              a minute of everything at once, which must leave no trace

One module for each figure; each has a `measure()`. `run` gives each figure a process of its own.
"""
