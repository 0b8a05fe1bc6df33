"""Data mixtures of LLaVA-style sets: samples, file scan, length buckets, stored encoder output."""
