"""Parsing the equation of an einsum."""

from __future__ import annotations


def parse_einsum(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Letters of each operand and of the result; an ellipsis becomes digits that end with 0."""
    operands, arrow, output = equation.replace(" ", "").partition("->")
    longest = 0
    inputs = []
    for letters, rank in zip(operands.split(","), ranks, strict=True):
        count = rank - len(letters.replace("...", ""))
        longest = max(longest, count if "..." in letters else 0)
        inputs.append(letters.replace("...", _digits(count)))
    if not arrow:
        every = "".join(inputs)
        output = "..." + "".join(sorted(letter for letter in set(every)
                                        if letter.isalpha() and every.count(letter) == 1))
    return inputs, output.replace("...", _digits(longest))


def _digits(count: int) -> str:
    return "".join(str(index) for index in reversed(range(count)))
