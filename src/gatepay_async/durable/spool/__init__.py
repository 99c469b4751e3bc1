"""The spool, which holds card keys until they are sent, and the code that writes to it."""
