"""Tables for other programs: what their columns are, and files of them in Parquet and CSV."""
