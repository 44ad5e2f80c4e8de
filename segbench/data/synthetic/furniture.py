"""Street furniture: lamp posts, traffic lights, signs, bins."""

from segbench.data.synthetic.brush import Brush
from segbench.data.synthetic.colour import Colour, mix, scaled
from segbench.data.synthetic.ids import POLE, SIGN, STATIC, TRAFFIC_LIGHT


def lamp_post(brush: Brush, height: float, arm: float, colour: Colour) -> None:
    """A lamp post; its arm reaches `arm` metres to the right."""
    brush.shape(((-0.1, 0), (0.1, 0), (0.05, height), (-0.05, height)), colour, POLE)
    brush.limb((0, height), (arm, height + 0.25), 0.09, colour, POLE)
    glow: Colour = (700, 560, 330) if brush.canvas.light.lamps else mix(colour, (235, 235, 230), 0.6)
    brush.limb((arm * 0.75, height + 0.18), (arm * 1.2, height + 0.22), 0.2, glow, POLE)


def traffic_light(brush: Brush, shining: int, colour: Colour) -> None:
    """A pole with a signal head (id 19); `shining` is 0 red, 1 amber, 2 green."""
    brush.limb((0, 0), (0, 3.5), 0.13, colour, POLE)
    brush.rect(-0.2, 2.4, 0.2, 3.55, (30, 32, 34), TRAFFIC_LIGHT)
    for k, glow in enumerate(((420, 70, 50), (430, 300, 60), (70, 400, 210))):
        brush.disc(0, 3.35 - 0.36 * k, 0.13, 0.13, glow if k == shining else scaled(glow, 0.2))


def sign(brush: Brush, kind: int, height: float, pole: Colour) -> None:
    """A sign (id 20) and its pole. `kind`: 0 limit, 1 warning, 2 one way, 3 parking, 4 yellow board, 5 a back."""
    brush.limb((0, 0), (0, height), 0.09, pole, POLE)
    t = height - 0.15
    if kind == 0:
        brush.disc(0, t, 0.36, 0.36, (196, 36, 40), SIGN)
        brush.disc(0, t, 0.25, 0.25, (238, 238, 234))
    elif kind == 1:
        brush.shape(((-0.42, t - 0.35), (0.42, t - 0.35), (0, t + 0.4)), (200, 40, 42), SIGN)
        brush.shape(((-0.24, t - 0.25), (0.24, t - 0.25), (0, t + 0.18)), (240, 238, 230))
    elif kind == 2:
        brush.disc(0, t, 0.36, 0.36, (36, 84, 168), SIGN)
        brush.limb((0, t - 0.2), (0, t + 0.15), 0.1, (238, 240, 242))
    elif kind == 3:
        brush.rect(-0.34, t - 0.34, 0.34, t + 0.34, (34, 86, 172), SIGN)
        brush.rect(-0.12, t - 0.2, 0.0, t + 0.22, (240, 240, 240))
        brush.disc(0.05, t + 0.08, 0.15, 0.14, (240, 240, 240))
    elif kind == 4:
        brush.rect(-0.9, t - 0.3, 0.9, t + 0.4, (226, 186, 52), SIGN)
        brush.rect(-0.6, t, 0.6, t + 0.12, (44, 44, 40))
    else:
        brush.disc(0, t, 0.36, 0.36, (142, 146, 150), SIGN)


def litter_bin(brush: Brush, colour: Colour, large: bool) -> None:
    """A litter bin or, large, a skip: static things are void (id 4)."""
    if large:
        brush.shape(((-1.3, 0.1), (1.3, 0.1), (1.6, 1.3), (-1.6, 1.3)), colour, STATIC)
        brush.rect(-1.65, 1.2, 1.65, 1.35, scaled(colour, 0.75), STATIC)
        for s in (-0.7, 0.0, 0.7):
            brush.rect(s - 0.05, 0.15, s + 0.05, 1.2, scaled(colour, 0.8))
        return
    brush.rect(-0.28, 0, 0.28, 1.0, colour, STATIC)
    brush.rect(-0.32, 0.95, 0.32, 1.1, scaled(colour, 0.65), STATIC)
    brush.rect(-0.28, 0, -0.08, 0.95, scaled(colour, 0.85))
