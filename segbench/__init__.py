"""segbench: find out, fairly and with a known budget, which segmentation architecture to choose for street scenes."""

import os
import sys

__version__ = "0.2.0"

if os.path.basename(getattr(sys, "argv", [""])[0]) in ("-m", "segbench"):  # a command, which is still being imported
    from segbench.runtime import startup

    startup.end_at_once_while_importing()
