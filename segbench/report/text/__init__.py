"""Every text of the report, in every language, and how numbers are written."""
