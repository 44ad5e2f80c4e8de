"""The report: ledgers → tables (numbers) → figures (plotly) → page (one HTML file). It never imports torch.

__main__.py   the command               ledgers.py   what the ledgers hold, as records
tables.py     every number              checks.py    whether the comparison was fair
searches.py   the searches' numbers     scenes.py    which validation images are shown
words.py      numbers in sentences      texts.py     every text, from texts_en.toml
figures.py, search_figures.py, theme.py              rows → plotly figures
blocks.py, sections.py                  a page is sections, a section is blocks; one function per section
page.py, page.html, style.css, page.js  blocks → HTML
"""
