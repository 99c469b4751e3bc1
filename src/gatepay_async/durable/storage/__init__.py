"""The database: jobs and runs of batches, which workers are alive, and rows that are not trusted."""
