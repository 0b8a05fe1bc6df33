"""Serves videos and answers over HTTP in the schemas of OpenAI's API."""
