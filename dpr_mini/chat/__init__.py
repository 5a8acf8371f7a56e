"""A dialogue: as tokens with a mask (template), and as turns under way (conversation)."""
