"""Real brokers, databases and processes, faults in all of them, and a checker: nothing is lost, nothing doubled."""
