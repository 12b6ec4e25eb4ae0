"""Two numbers changed under both their locks: argument 1 is how often."""

import multiprocessing
import statistics
import sys
import time


if __name__ == "__main__":
    times = int(sys.argv[1])
    one, two = multiprocessing.Value("Q", 0), multiprocessing.Value("Q", 0)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        for _ in range(times):
            with one.get_lock(), two.get_lock():
                one.value += 1
                two.value += 1
        seconds.append((time.perf_counter() - start) / times)
    print("Python: with one.get_lock(), two.get_lock()", statistics.median(seconds[1:]))
