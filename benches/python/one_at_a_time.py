"""The squares of 0..n over a pool of two, one to a message: argument 1 is n."""

import multiprocessing
import statistics
import sys
import time


def square(x):
    return x * x


if __name__ == "__main__":
    n = int(sys.argv[1])
    seconds = []
    with multiprocessing.Pool(2) as pool:
        for _ in range(6):
            start = time.perf_counter()
            pool.map(square, range(n), chunksize=1)
            seconds.append((time.perf_counter() - start) / n)
    print("Python: pool.map(square, range(n), chunksize=1)", statistics.median(seconds[1:]))
