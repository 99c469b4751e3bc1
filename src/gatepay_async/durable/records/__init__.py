"""What stands in the database and in the spool, as values. Pure."""
