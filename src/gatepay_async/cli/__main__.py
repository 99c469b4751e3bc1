"""``python -m gatepay_async.cli``: the ``gatepay`` command."""

from gatepay_async.cli.entry import main

main()
