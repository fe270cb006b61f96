"""What is known of a log as a file: written by one run, and gone on with by another, or added to others."""
