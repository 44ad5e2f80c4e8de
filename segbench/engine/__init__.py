"""Trains and uses networks: training, evaluation, inference, checkpoints, resuming, speed, export.

It may import `architectures`, `data`, `stats`, `runtime` and `core`, never a database.
"""
