"""``python -m gatepay_async.cli``: the ``gatepay`` command."""

from gatepay_async.cli.entry import main

if __name__ == "__main__":
    main()
