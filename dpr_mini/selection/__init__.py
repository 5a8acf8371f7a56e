"""Which data is kept: rules, what they see, and the measures they use."""
