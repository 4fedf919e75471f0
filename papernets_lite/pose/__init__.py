"""Finding the joints of bodies and faces, one paper a file."""
