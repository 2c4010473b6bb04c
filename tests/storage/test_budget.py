import pytest

from mkfa.errors import SourceError
from mkfa.storage import budget as budgets
from mkfa.storage.budget import Budget


def test_steps_and_bytes_count_over_everything_that_is_charged():
    budget = Budget("net.onnx", 100)
    budget.step(budgets.FREE_STEPS)
    with pytest.raises(SourceError, match=r"^net.onnx: needs more than [\d,]+ steps to read"):
        budget.step(100)
    budget = Budget("net.onnx", 100)
    for _ in range(64):
        budget.produce(1 << 20)
    with pytest.raises(SourceError, match=r"^net.onnx: would take more than 67 MB of memory"):
        budget.produce(1 << 20)


@pytest.mark.parametrize("size", [1, 20 << 20, 1 << 30, 10 << 30])
def test_an_honest_file_of_any_size_has_enough_and_a_small_one_not_a_gigabyte(size):
    budget = Budget("net.onnx", size)
    budget.produce(3 * size)  # float16 as float32, and the bytes themselves
    assert Budget("x", min(size, 20 << 20)).most_bytes < 1 << 29
    budget.step(3000 * 1000)


@pytest.mark.parametrize("shape", [(64,), (64, 1, 3, 3)])
def test_a_checkpoint_of_many_tensors_with_next_to_no_data_is_read(shape):
    budget, count = Budget("m", 3 << 20), 16_000 if len(shape) == 4 else 40_000
    for i in range(count):
        budget.tensor(f"model.stages.{i // 100}.blocks.{i % 100}.conv.weight", shape=shape)


def test_the_files_that_belong_to_the_first_one_count():
    budget = Budget("net.onnx", 1000)
    with pytest.raises(SourceError):
        Budget("net.onnx", 1000).produce(700 << 20)
    budget.grow(767_000_000)
    budget.produce(2 * 767_000_000)


def test_long_keys_and_the_prefixes_of_many_keys_are_refused():
    with pytest.raises(SourceError, match="has a name of 50,000 characters"):
        Budget("m").key("." * 50_000)
    budget = Budget("m")
    with pytest.raises(SourceError):
        for _ in range(100_000):
            budget.key("a." * 500)
