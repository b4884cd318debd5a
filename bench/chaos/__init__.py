"""Loads under random faults until they are through: `python -m bench.chaos`. What happens follows from a seed.

plan.py says what a load is and what befalls it, faults.py what can befall the world and endings.py what can befall a
run; world.py, loader.py and log.py are the things that these act on; load.py goes through a plan; watcher.py and
oracle.py judge, plants.py sees to it that they have something to find.
"""
