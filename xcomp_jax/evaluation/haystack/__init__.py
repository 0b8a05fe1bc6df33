"""Needle-in-a-haystack runs: visual tokens of needles inserted among those of a long video."""
