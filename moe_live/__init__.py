"""Live statistics of mixture-of-experts routing, read from the log of a running llama-server."""

__version__ = "0.1.0"
