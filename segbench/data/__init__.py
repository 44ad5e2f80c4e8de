"""Pixels: scenes on disk, drawn streets, packed arrays, subsets, batches, augmentation.

It may import `runtime` and `core`.
"""
