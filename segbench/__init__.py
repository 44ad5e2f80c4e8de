"""segbench: find out, fairly and with a known budget, which segmentation architecture to choose for street scenes."""

__version__ = "0.1.0"
