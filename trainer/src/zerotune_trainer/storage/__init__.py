"""Where files live: `file://` folders, S3 buckets, and models of the Hugging Face hub.

locations.py  a URI -> a store and a path in it, and what the errors of the system mean
stores.py     what a store can do: local.py files of this machine, s3.py S3 (s3_client.py, s3_errors.py)
files.py      list, open and read input files
models.py     a model's folder, on this machine (hub_errors.py: what the Hub's refusals mean)
runtime.py    where this process runs, as what those errors mean depends on it
once.py       what many processes need and one does at a time
folders.py    results folders, pushed to where they belong (folder.py: what they have in common)
"""

from zerotune_trainer.storage.files import (
    file_sizes,
    find_file,
    is_file,
    list_files,
    open_input,
    open_native,
    read_bytes,
)
from zerotune_trainer.storage.folder import Folder, Versioned
from zerotune_trainer.storage.folders import LocalFolder, StagedFolder, open_folder
from zerotune_trainer.storage.hub_errors import hub_errors
from zerotune_trainer.storage.locations import Location, locate, store_errors
from zerotune_trainer.storage.models import data_set_commit, local_folder
from zerotune_trainer.storage.once import complete_or_absent
from zerotune_trainer.storage.stores import StoredFile

__all__ = [
    "Folder",
    "LocalFolder",
    "Location",
    "StagedFolder",
    "StoredFile",
    "Versioned",
    "complete_or_absent",
    "data_set_commit",
    "file_sizes",
    "find_file",
    "hub_errors",
    "is_file",
    "list_files",
    "local_folder",
    "locate",
    "open_folder",
    "open_input",
    "open_native",
    "read_bytes",
    "store_errors",
]
