"""Video input: probing, frame sampling, decoding to uint8 frames, and the model's preprocessing."""
