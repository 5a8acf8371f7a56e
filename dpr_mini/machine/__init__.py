"""The machine: versions, GPUs, what is missing, progress bars, and the guard of child processes."""
