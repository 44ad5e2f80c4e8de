"""What is kept: Optuna's studies, the queue of their trials, who is alive; MLflow's runs; cards of promoted models.

It may import `data`, `stats`, `runtime` and `core`; it never imports a network.
"""
