"""Where pixels and the ledger meet: one training, the objective of a search, the examination of a model, workers.

It may import everything below the commands but `report`.
"""
