"""The page to try a photograph on: `python -m segbench.serve.page`, a Streamlit server of its own.

It knows the models only through the API, over HTTP, and imports no network. `command` starts it beside the API,
`__main__` is the process itself, `script` what Streamlit runs for every visitor, `screen` the whole page, `client` the
API's client, `viewer` the pictures that react in the browser, `tables` the rest, `texts` its two languages.
"""
