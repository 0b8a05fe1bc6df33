"""Study of interruptions: kills commands at random moments and compares their results."""
