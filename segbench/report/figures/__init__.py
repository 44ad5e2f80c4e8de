"""Rows in, plotly figures out."""
