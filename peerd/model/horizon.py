"""How far back changes are known."""


class BehindHorizonError(Exception):
    """Changes since *since* are asked for, and those up to *horizon* are no longer known."""

    def __init__(self, since: int, horizon: int) -> None:
        super().__init__(f"revision {since} is past the change log's horizon {horizon}")
