"""Networks for recognition, one paper a file."""
