"""Studies of the method on the generated task; each prints or writes a report."""
