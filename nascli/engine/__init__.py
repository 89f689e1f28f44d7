"""The one loop: strategies talk to it, the command line starts it."""
