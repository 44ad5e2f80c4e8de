"""Vehicles, from any side: hulls with windows, wheels and lamps; bicycles and motorcycles from theirs."""

import math
from collections.abc import Callable, Sequence

from segbench.data.synthetic.brush import CIRCLE, Brush
from segbench.data.synthetic.canvas import UP, Canvas, Point, Tone
from segbench.data.synthetic.colour import Colour, scaled
from segbench.data.synthetic.ids import BICYCLE, MOTORCYCLE
from segbench.data.synthetic.vehicle_models import Hull, Model

Place = Callable[[float, float, float], tuple[float, float, float]]  # (along, up, across) a vehicle -> (x, y, z)


def vehicle(canvas: Canvas, model: Model, x: float, z: float, yaw: float, paint: Colour, second: Colour) -> None:
    """A vehicle centred on (x, z). `yaw` radians from straight ahead, clockwise; pi: it comes towards the camera."""
    if not canvas.sees(x, z, model.length):
        return
    heading, across = (math.sin(yaw), math.cos(yaw)), (math.cos(yaw), -math.sin(yaw))

    def place(s: float, t: float, w: float) -> tuple[float, float, float]:
        s -= model.length / 2
        return (x + s * heading[0] + w * across[0], t, z + s * heading[1] + w * across[1])

    def distance(hull: Hull) -> float:
        px, _, pz = place(sum(s for s, _ in hull.outline) / len(hull.outline), 0, 0)
        return math.hypot(px, pz)

    inner, length = model.width / 2 - 0.1, model.length
    under = [place(s, 0.12, w) for s, w in ((0, -inner), (length, -inner), (length, inner), (0, inner))]
    canvas.fill([canvas.project(*p) for p in under], canvas.shade((26, 27, 30), UP, z), model.label)
    for hull in sorted(model.hulls, key=distance, reverse=True):
        colour = paint if hull.own_colour else second
        _shell(canvas, model, hull, place, heading, colour)
        for w in (-1, 1):
            cx, _, cz = place(length / 2, 0, w * model.width / 2)
            normal = (w * across[0], 0.0, w * across[1])
            if normal[0] * -cx + normal[2] * -cz > 0:
                _flank(canvas, model, hull, place, w, canvas.tint(normal, cz), colour)
    facing = -1 if heading[0] * x + heading[1] * z > 0 else 1  # which end one sees: -1 the rear, 1 the front
    foot = place(length + 0.01 if facing > 0 else -0.01, 0, 0)
    _end(Brush(canvas, foot[0], foot[2], across), model, paint, front=facing > 0)


def two_wheeler(brush: Brush, motor: bool, paint: Colour) -> None:
    """A bicycle (id 33) or a motorcycle (id 32) seen from its side, centred on the brush's foot."""
    label, thick = (MOTORCYCLE, 0.13) if motor else (BICYCLE, 0.05)
    for s in (-0.55, 0.55):
        brush.ring(s, 0.34, 0.3, thick, (34, 34, 38), label)
    if motor:
        outline = ((-0.7, 0.62), (-0.55, 0.85), (0.0, 0.78), (0.25, 0.98), (0.5, 0.9), (0.35, 0.4), (-0.3, 0.35))
        brush.shape(outline, paint, label)
        brush.rect(-0.6, 0.78, 0.0, 0.88, (32, 32, 34), label)
    for a, b in (((-0.55, 0.34), (-0.1, 0.34)), ((-0.1, 0.34), (0.38, 0.8)), ((-0.2, 0.85), (-0.1, 0.34)),
                 ((-0.2, 0.8), (0.38, 0.8)), ((-0.55, 0.34), (-0.2, 0.8)), ((0.55, 0.34), (0.36, 1.0))):  # fmt: skip
        brush.limb(a, b, 0.05, paint, label)
    brush.limb((0.3, 1.02), (0.44, 1.04), 0.05, (36, 36, 40), label)
    brush.limb((-0.3, 0.88), (-0.1, 0.88), 0.07, (36, 36, 40), label)


def _half_width(model: Model, t: float) -> float:
    """Bodies narrow above the belt line."""
    belt = 0.98 if model.tuck > 0.15 else 1.3
    return model.width / 2 * (1 - model.tuck * max(0.0, t - belt) / 0.5)


def _shell(canvas: Canvas, model: Model, hull: Hull, place: Place, heading: Point, paint: Colour) -> None:
    """The faces across a hull that look at the camera, far to near: tail, rear window, roof, windscreen, bonnet."""
    faces: list[tuple[float, list[Point], tuple[int, int, int]]] = []
    for k, ((s0, t0), (s1, t1)) in enumerate(zip(hull.outline, hull.outline[1:], strict=False)):
        length = math.hypot(s1 - s0, t1 - t0)
        ahead, up = -(t1 - t0) / length, (s1 - s0) / length  # the normal, in the plane of the outline
        normal = (ahead * heading[0], up, ahead * heading[1])
        cx, cy, cz = place((s0 + s1) / 2, (t0 + t1) / 2, 0)
        if normal[0] * -cx + normal[1] * (canvas.camera.height - cy) + normal[2] * -cz <= 0:
            continue
        a, b = _half_width(model, t0), _half_width(model, t1)
        corners = (place(s0, t0, -a), place(s0, t0, a), place(s1, t1, b), place(s1, t1, -b))
        rgb = canvas.shade((58, 70, 82) if k in hull.glass else paint, normal, cz)
        faces.append((math.hypot(cx, cz), [canvas.project(*corner) for corner in corners], rgb))
    for _, points, rgb in sorted(faces, key=lambda face: -face[0]):
        canvas.fill(points, rgb, model.label)


def _flank(canvas: Canvas, model: Model, hull: Hull, place: Place, w: int, tone: Tone, paint: Colour) -> None:
    """A hull's side with its windows and wheels; `w` is -1 for its left, 1 for its right."""

    def draw(points: Sequence[Point], colour: Colour, label: int | None = None) -> None:
        pixels = [canvas.project(*place(s, t, w * _half_width(model, t))) for s, t in points]
        canvas.fill(pixels, tone(colour), label)

    draw(hull.outline, paint, model.label)
    start, end, low = hull.outline[0][0], hull.outline[-1][0], hull.outline[0][1]
    draw(((start, low), (start, low + 0.18), (end, low + 0.18), (end, low)), scaled(paint, 0.55))
    fine = canvas.scale(place(model.length / 2, 0, 0)[2]) > 14
    for pane in hull.panes:
        draw(pane, (52, 62, 74))
        if fine:  # the sky mirrored in the upper half
            middle = pane[1][1] / 2
            draw([(s, t) if k in (1, 2) else (s, t / 2 + middle) for k, (s, t) in enumerate(pane)], (96, 112, 128))
    for s in model.wheels:
        r = model.radius
        tyre, hub = ([(s + r * f * c, r + r * f * d) for c, d in CIRCLE[:: 1 if fine else 2]] for f in (1.15, 0.58))
        draw(tyre, (28, 28, 31), model.label)
        if fine:
            draw(hub, (158, 161, 166))


def _end(brush: Brush, model: Model, paint: Colour, front: bool) -> None:
    """The lights, plate and bumper of a vehicle's visible end; `s` runs across it from the middle."""
    w, t = model.width / 2, model.lamps
    lit = brush.canvas.light.lamps
    low = model.hulls[0].outline[0][1]
    for edge in (-w + 0.12, w - 0.12):
        brush.rect(edge - 0.08, 0, edge + 0.08, low + 0.1, (28, 28, 30), model.label)  # the tyres
    brush.rect(-w * 0.97, low, w * 0.97, low + 0.22, scaled(paint, 0.5))
    if front:
        brush.rect(-w * 0.55, t - 0.2, w * 0.55, t - 0.03, (34, 36, 40))
        lamp: Colour = (600, 580, 480) if lit else (232, 236, 238)
    else:
        lamp = (500, 60, 40) if lit else (176, 30, 30)
    for edge in (-w * 0.78, w * 0.78):
        brush.rect(edge - w * 0.17, t - 0.12, edge + w * 0.17, t + 0.06, lamp)
    brush.rect(-0.26, low + 0.2, 0.26, low + 0.32, (236, 236, 230))
