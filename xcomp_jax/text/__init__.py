"""Text input: the ChatML prompt around a video, training labels, and tokenizers."""
