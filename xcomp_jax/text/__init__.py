"""Text in: the ChatML prompt around a video, label masks for training, tokenizers."""
