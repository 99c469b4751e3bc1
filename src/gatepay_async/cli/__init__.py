"""The ``gatepay`` command (extra ``cli``): a skin over the library, in English and Chinese."""
