"""Blocks to one HTML file that needs nothing else."""
