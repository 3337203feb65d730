"""The one composition root: what `peerd serve`, tests, benchmarks and the simulation start."""
