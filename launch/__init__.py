"""Start runs on clusters, check them ahead of time, measure them, and study the method."""
