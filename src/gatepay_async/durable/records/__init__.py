"""The rows of the database and the lines of the spool, as values. No I/O."""
