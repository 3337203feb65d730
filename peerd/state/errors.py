"""What can go wrong with the state directory, in words for its operator."""

from pathlib import Path


class StateError(Exception):
    """The state directory cannot be used or written; the message names the path, the reason and the fix."""

    def __init__(self, path: Path, message: str, fix: str) -> None:
        super().__init__(f"{path}: {message}; {fix}")
        self.path = path
