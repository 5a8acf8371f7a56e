"""What grade.py decides with: answers found in text, exact algebra of our own, structures, guards around the parser."""
