"""Pictures and sentences: captions, questions and answers; one paper a file."""
