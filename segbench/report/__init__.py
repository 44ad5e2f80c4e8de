"""The report: ledgers → numbers → figures (plotly) → page (one HTML file). It never imports torch.

__main__.py   the command                    ledgers.py   what the ledgers hold, as records
tables.py     the comparison's numbers       searches.py, tuning.py   the searches' numbers
pixels.py     borders, the label ceiling     scenes.py    which validation images are shown
checks.py     whether the comparison was fair
words.py      numbers in sentences           texts.py     every text, from texts_<language>.toml
*_figures.py, theme.py                       rows → plotly figures
blocks.py, sections.py, *_section.py, summary.py   a page is sections, a section is blocks
page.py, page.html, style.css, page.js, scenes.js  blocks → HTML; terms.py the glossary's links, download.py CSV
index.py, index.html                         the list of the reports made so far
"""
