"""One file a command, under its name. A command reads what the user gave, calls what is below, and prints."""
