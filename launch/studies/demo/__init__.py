"""Makes the demo checkpoint and the demo videos that ship with the package."""
