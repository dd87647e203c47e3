"""An app of somebody's own, with handlers, for the tests that need processes."""
