"""People, one paper a file."""
