"""Measurements, each beside the least that anybody would pay for the same: see docs/benchmarks.md."""
