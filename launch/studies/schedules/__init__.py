"""Compare compression schedules on the generated task, as the paper does on its benchmarks."""
