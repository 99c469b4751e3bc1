"""
GatePay's protocol: text in, text out.

Nothing in this package does I/O, waits, looks at a clock, draws a random number or reads the
environment; what it needs of those comes in as an argument. (``QrCode.save`` is the one exception:
it writes where its caller says.)
"""
