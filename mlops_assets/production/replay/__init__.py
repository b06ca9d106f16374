"""Replay: a stretch of history lived again, day by day, in a home of its own.

What serves, watches, decides, trains and takes back in production does so here as well; only the
clock is another one. This module imports nothing heavy; import what is needed from the modules
beside it.
"""
