"""What this deployment declares, in YAML and contracts: the flights example.

Everything here uses the platform as any user could; there is no other Python than contracts.
"""
