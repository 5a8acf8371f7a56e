"""Is a model better: graded answers, score cards, intervals and tests."""
