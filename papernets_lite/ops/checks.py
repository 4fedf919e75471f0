"""How every public boundary refuses what it cannot use."""


def expect(holds: object, expected: str, *got: object) -> None:
    """Nothing if it holds, else an error that says what was expected and what came.

    Args:
        holds: the condition that a caller must keep; anything with a truth value.
        expected: the condition in words.
        got: what came instead; shapes are written as plain tuples, the rest as Python
            writes it.

    Raises:
        ValueError: ``expected ..., got ...``.
    """
    if not holds:
        plain = (tuple(value) if isinstance(value, tuple) else value for value in got)
        raise ValueError(
            f"expected {expected}" + ", got " * bool(got) + ", ".join(map(repr, plain))
        )
