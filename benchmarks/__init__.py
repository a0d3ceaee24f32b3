"""Speed: pytest-benchmark files, and ``python -m benchmarks.compare`` for tables against peers."""
