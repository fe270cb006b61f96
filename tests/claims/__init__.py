"""Judgements on simulated logs: of structure that is not there at most 1 layer in 1,000 may be called."""
