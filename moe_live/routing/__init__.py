"""Records to steps: blocks, steps, prefill or decode, and which rows can be believed."""
