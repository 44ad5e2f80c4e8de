"""The one exception a user sees: what was found, what was expected, and how to fix it."""


class UserError(Exception):
    """Wrong input or a missing thing. Commands print it as one line, without a traceback, and exit with code 2."""
