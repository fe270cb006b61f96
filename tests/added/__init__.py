"""What is added to the package in `test_adding.py`, as the modules that it would be there."""
