"""Bytes to records: complete lines only, numbers parsed over whole spans."""
