"""Many files, or one huge file in parts, on many machines: each file or part is a job like any other.

What is loaded is frozen first (`listing.py`, `first_pass.py`, `manifest.py`), then placed (`placement.py`), handed out
(`dispatch.py`) to workers (`work.py`) that Dask runs (`cluster.py`), watched (`overview.py`) and told (`report.py`).
Exactly-once is each job's own doing: its lease, its checkpoint, its fence. Nothing here sends a row.
"""
