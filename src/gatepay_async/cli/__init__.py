"""The ``gatepay`` command (extra ``cli``), in English and Chinese. It calls the library for all its work."""
