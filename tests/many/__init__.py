"""Many finished logs as tasks."""
