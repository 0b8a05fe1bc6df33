"""Video in, uint8 frames out: probing, choosing frames, decoding, and the model's pixel rule."""
