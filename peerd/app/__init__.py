"""The one composition root: what `peerd serve`, tests, benchmarks and the simulation start."""

from peerd.model.config import ServeConfig


def run(config: ServeConfig) -> int:
    """`peerd.app.run.run`, imported when it is called: the parts cost more than the settings."""
    from peerd.app.run import run as serve

    return serve(config)
