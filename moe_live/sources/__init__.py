"""Where bytes come from: followed files, pipes, finished files."""
