"""What one process counts another one reads, also after the end of the first."""

import os

from pytest_llmopt.runtime.worker.counter import Counter, new_file


def test_both_ends_see_the_same_number():
    file = new_file()
    one, other = Counter.at(file), Counter.at(file)
    os.close(file)
    assert other.value == 0
    one.set(2**40)
    assert other.value == 2**40


def test_what_is_no_count_is_none():
    file = new_file()
    counter = Counter.at(file)
    os.close(file)
    counter.set(-3)
    assert counter.value == 0


def test_a_number_outlives_the_process_that_wrote_it():
    file = new_file()
    counter = Counter.at(file)
    child = os.fork()
    if child == 0:
        counter.set(17)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(file)
    assert counter.value == 17
