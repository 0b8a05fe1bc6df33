"""Manifests of questions about videos, decoded and tokenized once into record files."""
