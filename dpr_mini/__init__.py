"""dpr-mini: dual-phase self-training of a reasoning model on one node. Importing this does no work."""

__version__ = "0.1.0"
