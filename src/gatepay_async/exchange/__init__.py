"""One attempt over a network: the interface (``port``), its implementations, and TLS and proxy (``network``)."""
