"""The sections of the page: numbers and figures, in blocks, with their sentences."""
