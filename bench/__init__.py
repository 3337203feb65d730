"""Benchmarks: `make bench` lists them, `make bench NAME=startup` runs one."""
