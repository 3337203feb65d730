"""How the demo fails: a sentence that says what did not happen, and why as far as anyone knows."""


class DemoError(Exception):
    """A step did not happen."""
