"""What Streamlit runs, anew after every touch; the page itself is a module, which is imported once."""

from segbench.serve.page import screen

screen.show()
