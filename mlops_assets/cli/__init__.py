"""The ``mlops`` command, one file a noun.

A command reads its arguments, calls a plain package and prints. Heavy imports stand inside the
commands, so that ``--help`` answers in under a second.
"""
