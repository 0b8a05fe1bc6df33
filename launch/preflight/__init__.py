"""Compiling for machines that are not there (TPU and GPU), on any machine with a CPU."""
