"""Logs from any model: written through llama-cpp-python, and checked against the model's routers."""
