"""The paper's tables: published figures beside those of a checkpoint, or of tiny models."""
