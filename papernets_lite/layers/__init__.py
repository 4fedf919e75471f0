"""Small building blocks that no chapter of the book claims as its own."""
