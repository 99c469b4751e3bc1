"""
Benchmarks: the client compared with what a user would write instead.

    python -m benchmarks.run               run all benchmarks; write the table and the pictures
    python -m benchmarks.run throughput    run one benchmark
    python -m benchmarks.soak              run all kinds of calls for a minute; check for leaks

Each benchmark is a module with a function `measure()`. `run` starts a process for each of them.
"""
