"""How much of two texts is kept where both don't fit."""


def truncated_lengths(length_a: int, length_b: int, room: int) -> tuple[int, int]:
    """Returns how many tokens of two texts are kept.

    The result of removing one token at a time from the end of the longer text, of the second one
    on a tie, until both fit.

    Args:
        length_a: tokens of the first text.
        length_b: tokens of the second text.
        room: tokens there is room for.
    """
    if length_a + length_b <= room:
        return length_a, length_b
    half_b = room // 2
    half_a = room - half_b
    if length_b <= half_b:
        return room - length_b, length_b
    if length_a <= half_a:
        return length_a, room - length_a
    return half_a, half_b
