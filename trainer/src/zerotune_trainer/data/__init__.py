"""From the files a job names to batches of tokens.

files.py       which files, in which format (hub.py: data sets of the Hugging Face Hub)
readers.py     files -> records, each with its place (lines.py: text, saved.py: `datasets` folders, records.py: all)
processing.py  a function of the user's on every record
columns.py     which columns hold what
formatting.py  record -> text or tokens, and what counts in the loss (chat.py, masks.py)
tokens.py      text -> rows (encoding.py: special tokens, parallel.py: in many processes, tokenizing.py: onto the disk)
preferences.py records of preferences; preference_rows.py, mismatched.py, preference_batches.py: their rows and batches
packing.py     rows -> blocks
cache.py       rows are made once (arrow.py: how they lie on the disk)
preparation.py records -> rows in blocks (replay.py: general text among them)
provenance.py  what rows that are on the disk already were made with
prepare.py     all of the above
judgements.py  good and bad completions of kto weighed
preview.py     the same as text for a person (__main__.py: `zerotune data`)
collate.py     rows -> batches
"""

from zerotune_trainer.data.collate import collator, padded_length, padding_collator
from zerotune_trainer.data.counts import DataCounts, SplitCounts
from zerotune_trainer.data.judgements import imbalance
from zerotune_trainer.data.preference_batches import PreferenceCollator, RowsWithReference
from zerotune_trainer.data.prepare import PreparedData, prepare
from zerotune_trainer.data.replay import SplitRows

__all__ = [
    "DataCounts",
    "PreferenceCollator",
    "PreparedData",
    "RowsWithReference",
    "SplitCounts",
    "SplitRows",
    "collator",
    "imbalance",
    "padded_length",
    "padding_collator",
    "prepare",
]
