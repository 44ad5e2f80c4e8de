"""What a drawn street is made of, from colours and strokes over houses, cars and people to a city in its weather.

Lengths are metres: x to the right of the camera, y above the ground, z ahead. On an upright sheet (brush.py) s runs
along it and t upwards. `side` is -1 for the street's left, 1 for its right. Colours are RGB, 0..255. What is drawn
with a label lands in the image and in the label map alike; what is drawn without one (a window, a shadow) in the
image only. Each file imports earlier ones only:

    how to draw       ids, colour, dice, canvas, brush
    one thing         vehicle_models, vehicles, people, buildings, plants, furniture
    a city's streets  city, weather, street, roadside, traffic, plots, photograph

`segbench/data/streets.py` puts a scene together.
"""
