"""Video, one paper a file."""
