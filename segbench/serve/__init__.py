"""Promoted models over HTTP: `python -m segbench.serve`.

A request is read and checked (uploads), decoded in a small pool (photographs), computed in company (scheduler, on the
lanes of networks), and answered (answers). `api` holds the routes, `guard` who may ask, `server` how it stops.
"""
