"""Benchmarks and their peers, the demonstration and the campaign; each module says how to call it.

Nothing that the package needs may live here.
"""
