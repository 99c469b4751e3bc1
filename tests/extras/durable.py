"""What the extra `durable` promises: its room opens."""

from importlib import import_module

# Not `from … import`: type checkers would look for it where it has not landed yet.
print(import_module("gatepay_async.durable").DurableUploads)
