"""Segmentation, one paper a file."""
