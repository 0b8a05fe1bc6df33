"""What is learnt from: generated videos with known answers, prepared record sets, batches."""
