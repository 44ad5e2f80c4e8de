"""Connects training and the ledger: training runs, a search's objective, promotion, examination, workers.

It may import everything below the commands but `report`.
"""
