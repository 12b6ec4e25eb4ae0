"""Ends a pool of two that has argument 1 tasks in its queue."""

import multiprocessing
import statistics
import sys
import time


def wait_for_ever():
    while True:
        time.sleep(1)


if __name__ == "__main__":
    n = int(sys.argv[1])
    seconds = []
    for _ in range(5):
        pool = multiprocessing.Pool(2)
        tasks = [pool.apply_async(wait_for_ever) for _ in range(n)]
        start = time.perf_counter()
        pool.terminate()
        pool.join()
        seconds.append(time.perf_counter() - start)
    print("Python: pool.terminate(), pool.join(); the tasks never end", statistics.median(seconds))
