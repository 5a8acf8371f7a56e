"""What the report is made of: the numbers, the figures, the document. stages/report.py says what stands where."""
