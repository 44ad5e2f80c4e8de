"""Pixels: scenes on disk, drawn streets, packed arrays, subsets, batches.

It may import `runtime` and `core`.
"""
