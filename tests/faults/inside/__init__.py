"""An app that goes with the product into the processes under test: named steps, protections taken out, a handler, views.

So that no switch for tests is in the product itself.
"""
