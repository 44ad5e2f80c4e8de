"""The report: the ledger → numbers → figures (plotly) → sections → page (one HTML file). It never imports torch.

__main__.py   the command
write.py      one report as one file: what the command and the Python API call
assemble.py   the whole page, section by section
sections/     numbers and figures → blocks, with their sentences
page/         blocks → HTML, and the list of all reports
figures/      numbers → plotly
numbers/      every number of the comparison; nothing there draws
text/         every text in every language

Each imports only those further down.
"""
