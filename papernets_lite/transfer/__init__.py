"""What is learnt once and used elsewhere: distances, starting points, features; one
paper a file."""
