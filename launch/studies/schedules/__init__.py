"""The paper's comparison of compression schedules in small, on the generated task."""
