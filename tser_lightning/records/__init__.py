"""Run identity, run directories, records and W&B."""
