"""Lock, add one, unlock: argument 1 is how often each process does it, argument 2 how many do.

Each has a processor of its own: on one they would take turns, and hardly ever contend.
"""

import multiprocessing
import os
import statistics
import sys
import time


def add(value, barrier, times, processor):
    os.sched_setaffinity(0, [processor])
    barrier.wait()
    start = time.perf_counter()
    for _ in range(times):
        with value.get_lock():
            value.value += 1
    ends.put((start, time.perf_counter()))


if __name__ == "__main__":
    times, processes = int(sys.argv[1]), int(sys.argv[2])
    value = multiprocessing.Value("Q", 0)
    barrier = multiprocessing.Barrier(processes)
    ends = multiprocessing.SimpleQueue()
    processors = sorted(os.sched_getaffinity(0))
    seconds = []
    for _ in range(6):
        children = [
            multiprocessing.Process(
                target=add, args=(value, barrier, times, processors[index % len(processors)])
            )
            for index in range(processes)
        ]
        for child in children:
            child.start()
        spans = [ends.get() for _ in children]
        for child in children:
            child.join()
        span = max(end for _, end in spans) - min(start for start, _ in spans)
        seconds.append(span / (times * processes))
    print("Python: with value.get_lock(): value.value += 1", statistics.median(seconds[1:]))
