"""Accumulators over batches of steps, and pure functions that turn their counts into metrics."""
