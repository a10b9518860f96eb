"""SQUASH on short-lived functions: a coordinator, query allocators started as a tree, and processors of one partition each.

`tree.py` says who starts whom, `payload.py` how bytes travel, `retained.py` what a warm container keeps.
"""
