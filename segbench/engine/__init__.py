"""Training a network and using it: training, evaluation, inference, checkpoints, resuming, speed.

It may import `architectures`, `data`, `stats`, `runtime` and `core`; it knows no database.
"""
