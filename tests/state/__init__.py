"""States: what is written, what is read again, what is refused."""
