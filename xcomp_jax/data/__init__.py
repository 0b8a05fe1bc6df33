"""Training data: generated videos, prepared record sets, data mixtures, and batches of them."""
