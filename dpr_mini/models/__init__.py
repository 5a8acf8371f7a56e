"""A model's name to its folder and identity; published shapes; GGUF."""
