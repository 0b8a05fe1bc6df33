"""What is learnt from: generated videos, prepared record sets, mixtures of files, batches."""
