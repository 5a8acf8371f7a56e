"""The engine that asks SGLang servers: their processes, their wire format, and what is in flight."""
