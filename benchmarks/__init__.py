"""Benchmarks, the product side by side with the raw clients: ``python -m benchmarks``; see docs/performance.md."""
