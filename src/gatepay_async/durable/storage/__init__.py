"""The database: the rows of jobs and batches, the locks of workers, and protection against untrusted rows."""
