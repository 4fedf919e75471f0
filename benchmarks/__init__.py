"""Speeds, as ratios within one run, beside other packages. ``make bench`` writes
``results.md``; nothing here is a test."""
