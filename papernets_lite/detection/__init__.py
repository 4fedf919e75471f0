"""Detection, one paper a file."""
