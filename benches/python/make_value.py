"""Make numbers with locks: argument 1 is how many, argument 2 whether all of them stay."""

import multiprocessing
import statistics
import sys
import time


if __name__ == "__main__":
    times, stay = int(sys.argv[1]), int(sys.argv[2])
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        if stay:
            values = [multiprocessing.Value("Q", 0) for _ in range(times)]
            del values
        else:
            for _ in range(times):
                multiprocessing.Value("Q", 0)
        seconds.append((time.perf_counter() - start) / times)
    print('Python: multiprocessing.Value("Q", 0)', statistics.median(seconds[1:]))
