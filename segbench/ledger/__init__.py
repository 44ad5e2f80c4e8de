"""The databases: Optuna's studies, the queue of trials, workers' liveness; MLflow's runs; cards of promoted models.

It may import `data`, `stats`, `runtime` and `core`, never a network.
"""
