"""Speed: pytest-benchmark files; ``benchmarks.compare`` and ``benchmarks.scaling`` print tables."""
