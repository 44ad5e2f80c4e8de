"""Faults: what may befall a search or a promotion, and that nothing is lost by it."""
