"""The flights example: raw tables, their contracts, and the model of delays."""
