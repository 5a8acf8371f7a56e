"""One stage a file; none imports another. `pipeline.py` alone knows their order."""
