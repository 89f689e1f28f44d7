"""Neural architecture search and network compression on the command line."""

__version__ = "0.1.0"
