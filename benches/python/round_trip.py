"""One call at a time over a pool of one: argument 1 is how many calls a round has."""

import multiprocessing
import statistics
import sys
import time


def square(x):
    return x * x


if __name__ == "__main__":
    calls = int(sys.argv[1])
    seconds = []
    with multiprocessing.Pool(1) as pool:
        for _ in range(6):
            start = time.perf_counter()
            for _ in range(calls):
                pool.apply(square, (12,))
            seconds.append((time.perf_counter() - start) / calls)
    print("Python: pool.apply(square, (12,))", statistics.median(seconds[1:]))
