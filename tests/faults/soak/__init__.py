"""What the soak runs and what may happen to it; tests.faults.test_soak does it."""
