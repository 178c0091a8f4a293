"""Logs that can be taken back to where a checkpoint was written."""

import csv

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unroll.training.loggers import MetricsFile, TensorBoard


def log(logger, steps):
    for step in steps:
        logger.log_metrics({"loss": step / 2, **({"valid": 1.0} if step % 4 == 3 else {})}, step)


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def metrics_file(tmp_path):
    return lambda: MetricsFile(str(tmp_path / "metrics.csv"))


class TestMetricsFile:
    def test_a_row_for_each_time_and_a_column_for_each_name(self, metrics_file):
        logger = metrics_file()
        log(logger, range(4))
        assert rows(logger.path)[0] == {"loss": "0.0", "step": "0", "valid": ""}
        assert rows(logger.path)[3] == {"loss": "1.5", "step": "3", "valid": "1.0"}

    def test_after_a_rewind_it_goes_on_as_if_nothing_had_been(self, metrics_file, tmp_path):
        whole = MetricsFile(str(tmp_path / "whole.csv"))
        log(whole, range(20))
        first = metrics_file()
        log(first, range(9))
        position = first.position()
        log(first, range(9, 14))
        with open(first.path, "a") as file:
            file.write("3.5,1")  # killed while it wrote
        second = metrics_file()
        second.rewind(position)
        log(second, range(9, 20))
        assert second.path.read_bytes() == whole.path.read_bytes()

    def test_rewound_to_nothing_it_is_replaced(self, metrics_file):
        log(metrics_file(), range(9))
        second = metrics_file()
        second.rewind(None)
        log(second, range(2))
        assert [row["step"] for row in rows(second.path)] == ["0", "1"]


class TestTensorBoard:
    def board(self, folder):
        return TensorBoard(str(folder), name="", version="")

    def steps(self, folder):
        events = EventAccumulator(str(folder), purge_orphaned_data=False)
        events.Reload()
        return [event.step for event in events.Scalars("loss")]

    def test_after_a_rewind_no_event_is_lost_or_doubled(self, tmp_path):
        first = self.board(tmp_path)
        log(first, range(9))
        position = first.position()
        log(first, range(9, 14))
        first.finalize("failed")
        second = self.board(tmp_path)
        assert second.experiment is not None  # Lightning opens a file before it loads a checkpoint
        second.rewind(position)
        log(second, range(9, 20))
        second.finalize("success")
        assert self.steps(tmp_path) == list(range(20))

    def test_rewound_to_nothing_it_is_replaced(self, tmp_path):
        first = self.board(tmp_path)
        log(first, range(9))
        first.finalize("failed")
        second = self.board(tmp_path)
        second.rewind(None)
        log(second, range(2))
        second.finalize("success")
        assert self.steps(tmp_path) == [0, 1]
