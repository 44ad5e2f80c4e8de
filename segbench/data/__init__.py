"""Pixels: scenes on disk, drawn streets, subsets, packed arrays, batches."""
