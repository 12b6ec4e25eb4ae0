"""The squares of 0..n over a pool of two, and by a loop: argument 1 is n."""

import multiprocessing
import statistics
import sys
import time


def square(x):
    return x * x


def median(run):
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    n = int(sys.argv[1])
    with multiprocessing.Pool(2) as pool:
        print("Python: pool.map(square, range(n)), two workers", median(lambda: pool.map(square, range(n))))
    print("Python: a loop", median(lambda: [square(x) for x in range(n)]))
