"""Many finished logs, each a task: what a task does, what runs it, and how what they find is merged."""
