"""Argument 1 numbers in shared memory, handed to a pool of one, and one of them back."""

import multiprocessing
import multiprocessing.shared_memory
import statistics
import sys
import time


def read(name, index):
    memory = multiprocessing.shared_memory.SharedMemory(name)
    view = memory.buf.cast("d")
    sample = view[index]
    view.release()
    memory.close()
    return sample


if __name__ == "__main__":
    n = int(sys.argv[1])
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=8 * n)
    seconds = []
    with multiprocessing.Pool(1) as pool:
        for _ in range(31):
            start = time.perf_counter()
            pool.apply(read, (memory.name, n // 2))
            seconds.append(time.perf_counter() - start)
    memory.close()
    memory.unlink()
    print("Python: SharedMemory, by its name", statistics.median(seconds[1:]))
