"""What a person reads at the end of a sweep: figures, the table, the verdict and the files."""
