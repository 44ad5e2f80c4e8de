"""Colours: RGB, 0..255; surfaces that glow go beyond."""

Colour = tuple[float, float, float]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` (0..1) of `b`."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def scaled(colour: Colour, factor: float) -> Colour:
    """`colour` made brighter or darker by a factor."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


def colours(hexadecimal: str) -> tuple[Colour, ...]:
    """`"e8ce9e d69474"` -> two colours."""
    r, g, b = ([int(word[k : k + 2], 16) for word in hexadecimal.split()] for k in (0, 2, 4))
    return tuple(zip(r, g, b, strict=True))
