"""
GatePay's protocol: text in, text out.

Nothing in this package does I/O, waits, reads a clock, uses randomness or reads the environment. The caller passes
times, random numbers and settings as arguments. ``QrCode.save`` is the only exception: it writes the file that its
caller names.
"""
