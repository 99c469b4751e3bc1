"""What a worker does with a batch, and how a job's report is made."""
