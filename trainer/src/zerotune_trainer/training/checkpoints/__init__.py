"""Checkpoints: complete or absent. A folder counts only with a manifest that its files agree with.

retention.py  which checkpoints are kept: pure
store.py      the folders: what is there, what state it is in, completing and removing it
writer.py     all ranks write a draft, measure its files, and rank 0 completes it
reader.py     the newest checkpoint that is whole and loads (or the one asked for by name)
loading.py    whether the files of a checkpoint load, before the engine takes them
"""
