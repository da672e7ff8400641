"""Rows of a memory-mapped file, by number."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerotune_trainer.data.arrow import flat_of, read_rows, table_of, write_counts, write_rows
from zerotune_trainer.data.mapped import MappedRows
from zerotune_trainer.data.tokens import Row

pytestmark = pytest.mark.slow

ROWS = st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=5), min_size=1, max_size=12)


def mapped(folder: Path, parts: list[list[list[int]]]) -> MappedRows:
    """The rows of all parts, a part a table of the file; labels are one more than the ids."""
    tables = [table_of([_row(ids) for ids in part]) for part in parts]
    write_counts(folder, write_rows(folder, tables))
    return read_rows(folder)[0]


def _row(ids: list[int]) -> Row:
    array = np.array(ids, dtype=np.int32)
    return Row(array, array + 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(ROWS, min_size=1, max_size=4), data=st.data())
def test_every_row_is_found_by_its_number_and_chosen_ones_in_order(
    tmp_path: Path, parts: list[list[list[int]]], data: st.DataObject
) -> None:
    rows = mapped(tmp_path, parts)
    expected = [ids for part in parts for ids in part]
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(expected), max_size=len(expected))))

    assert [row["input_ids"].tolist() for row in rows] == expected  # type: ignore[attr-defined]
    assert rows[len(rows) - 1]["labels"].tolist() == [each + 1 for each in expected[-1]]
    kept = [each for table in rows.tables(chosen) for each in flat_of(table)[0].tolist()]
    assert kept == [each for ids, yes in zip(expected, chosen, strict=True) if yes for each in ids]
    assert sum(table.num_rows for table in rows.tables()) == len(expected)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_number_that_no_row_has_is_an_error(tmp_path: Path, index: int) -> None:
    with pytest.raises(IndexError, match=f"row {index} of 3"):
        mapped(tmp_path, [[[1], [2], [3]]])[index]


def test_another_process_maps_the_file_itself(tmp_path: Path) -> None:
    rows = mapped(tmp_path, [[[1, 2]] * 1000])
    sent = pickle.dumps(rows)
    assert len(sent) < 500
    assert pickle.loads(sent)[999]["input_ids"].tolist() == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("payload", ["infer", "script"])
def test_ranks_that_do_not_train_import_no_datasets_no_pandas_and_no_mlflow(payload: str) -> None:
    program = (
        f"import sys, zerotune_trainer.{payload}\n"
        "print([name for name in ('datasets', 'pandas', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_ranks_import_no_datasets_no_pandas_and_no_mlflow(tmp_path: Path) -> None:
    mapped(tmp_path, [[[1, 2]]])
    program = (
        "import sys, zerotune_trainer.train\n"
        "from accelerate.data_loader import prepare_data_loader\n"
        "from torch.utils.data import DataLoader\n"
        "from zerotune_trainer.data.mapped import MappedRows\n"
        f"rows = MappedRows({str(tmp_path / 'rows.arrow')!r})\n"
        "next(iter(prepare_data_loader(DataLoader(rows), num_processes=2, process_index=0)))\n"
        "print([name for name in ('datasets', 'pandas', 'mlflow') if name in sys.modules])\n"
        "from transformers.utils import is_datasets_available\n"
        "print(is_datasets_available())\n"
        "import datasets, accelerate.data_loader, transformers.trainer as trainer\n"
        "print(trainer.datasets.Dataset is datasets.Dataset, trainer.is_datasets_available(),"
        " accelerate.data_loader.is_datasets_available())"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-3:] == ["[]", "True", "True True True"]
