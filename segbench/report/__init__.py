"""The report: the ledger → numbers → figures (plotly) → sections → page (one HTML file). It never imports torch.

__main__.py   the command                     numbers/    every number of the comparison; nothing there draws
assemble.py   the whole page, section by section    figures/    numbers → plotly
sections/     figures and sentences → blocks   page/       blocks → HTML, and the list of all reports
text/         every text in every language

Each folder imports only those further down: sections, page, figures, numbers, text.
"""
