"""An array of doubles to a worker and back: argument 1 is how many there are."""

import array
import multiprocessing
import statistics
import sys
import time


def same(samples):
    return samples


if __name__ == "__main__":
    samples = array.array("d", bytes(8 * int(sys.argv[1])))
    seconds = []
    with multiprocessing.Pool(1) as pool:
        for _ in range(6):
            start = time.perf_counter()
            pool.apply(same, (samples,))
            seconds.append(time.perf_counter() - start)
    print("Python: pool.apply(same, (samples,)), an array.array", statistics.median(seconds[1:]))
