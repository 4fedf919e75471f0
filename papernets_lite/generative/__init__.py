"""Image synthesis and translation, one paper a file."""
