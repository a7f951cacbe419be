"""Many parts on all cores: worker processes that are told what to do once and load it once.

Workers are started anew and not forked, since what they load starts threads. An error crosses
over as plain words: a pickled exception, or its traceback, could carry pieces of the data.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

from release_kit.errors import Problem, ReleaseKitError, Unfinished, UnusableInput
from release_kit.privacy.detection.light_imports import keep_frameworks_out

Task = TypeVar("Task")
Answer = TypeVar("Answer")

_POLL = 0.5
"""Seconds between two looks at how far the workers are."""
_AHEAD = 4
"""So many finished answers a worker may wait for the one before them."""


@dataclass(frozen=True)
class Failure:
    """Why a task failed, in words that hold no data."""

    is_unusable: bool
    """The input cannot be used; else the work could not be finished."""
    message: str
    hint: str = ""
    problems: tuple[Problem, ...] = ()

    def error(self) -> ReleaseKitError:
        """Return the failure as the error that it was."""
        if self.is_unusable:
            return UnusableInput(self.message, hint=self.hint, problems=self.problems)
        return Unfinished(self.message, hint=self.hint)


Count = Callable[[int], None]
"""Counts progress."""
Learn = Callable[[Count], Callable[[Task], Answer]]
"""Returns the work, which loads what it needs when it is first done."""


def in_words(work: Callable[[Task], Answer], task: Task) -> Answer | Failure:
    """Do the work, and return its errors as words."""
    try:
        return work(task)
    except UnusableInput as error:
        return Failure(True, error.message, error.hint, error.problems)
    except ReleaseKitError as error:
        return Failure(False, error.message, error.hint)
    except OSError as error:
        return Failure(False, f"a file cannot be read or written: {error.strerror}")
    except MemoryError:
        return Failure(False, "the memory is full", "run with fewer --jobs")
    except Exception as error:  # noqa: BLE001 - whatever it is, its message may quote
        return Failure(False, f"{type(error).__name__} while a file was worked on: a bug")


def answers(
    learn: Learn[Task, Answer], tasks: Iterable[Task], jobs: int, progress: Count
) -> Iterator[Answer | Failure]:
    """Yield the answer to each task, in the tasks' order.

    No more than `jobs` tasks are under way, and the tasks are asked for as late as that.

    Args:
        learn: what a worker does; it is pickled once for each worker.
        tasks: plain values.
        jobs: worker processes; 1 works in this process.
        progress: is told now and then what the work has counted so far, all tasks together.

    Raises:
        Unfinished: a worker ended without a word.
    """
    if jobs == 1:
        yield from _alone(learn, tasks, progress)
        return
    import multiprocessing
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(learn, counter)
    )
    broken = False
    try:
        yield from _in_order(pool, tasks, jobs, lambda: progress(counter.value))
    except BrokenProcessPool:
        broken = True
    finally:
        # Who leaves early does not want to wait. Python 3.14 has a name for this.
        for worker in list((pool._processes or {}).values()):
            worker.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
    if broken:
        raise Unfinished(
            "a worker process ended without a word",
            hint="most often the memory was full; run again with fewer --jobs",
        )


def _alone(
    learn: Learn[Task, Answer], tasks: Iterable[Task], progress: Count
) -> Iterator[Answer | Failure]:
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done)

    work = learn(count)
    for task in tasks:
        yield in_words(work, task)


def _in_order(
    pool: ProcessPoolExecutor, tasks: Iterable[Task], jobs: int, look: Callable[[], None]
) -> Iterator[Any]:
    waiting = iter(tasks)
    under_way: list[Future[Any]] = []
    exhausted = False
    while under_way or not exhausted:
        while not exhausted and _may_start(under_way, jobs):
            task = next(waiting, None)
            if task is None:
                exhausted = True
            else:
                under_way.append(pool.submit(_answer, task))
        wait([f for f in under_way if not f.done()], _POLL, FIRST_COMPLETED)
        look()
        while under_way and under_way[0].done():
            yield under_way.pop(0).result()


def _may_start(under_way: list[Future[Any]], jobs: int) -> bool:
    busy = sum(not future.done() for future in under_way)
    return busy < jobs and len(under_way) < _AHEAD * jobs


_work: Callable[[Any], Any] | None = None


def _begin(learn: Learn[Any, Any], counter: Any) -> None:
    global _work  # noqa: PLW0603 - a pool hands its workers nothing else
    begin_process()

    def count(more: int) -> None:
        with counter.get_lock():
            counter.value += more

    _work = learn(count)


def begin_process() -> None:
    """Make this process, which is new, a worker: one thread, and no life beyond its parent's."""
    # As many threads as processes would be slower than one each. Nothing heavy is loaded yet.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    keep_frameworks_out()
    # Ctrl-C reaches every process of the terminal; one of them tells it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _end_with_parent()


def _answer(task: Any) -> Any:
    return in_words(_work, task) if _work else Failure(False, "a worker was not told its work")


def _end_with_parent() -> None:
    """End this process when its parent is gone; a pool's worker would wait for ever."""
    import threading
    from multiprocessing import parent_process
    from multiprocessing.connection import wait as wait_for

    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            wait_for([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
