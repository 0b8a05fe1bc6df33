"""Parsing, output and progress that all commands share."""
