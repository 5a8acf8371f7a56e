"""Is an answer right: grader.py decides, with answers found in text, exact algebra, structures and guards."""
