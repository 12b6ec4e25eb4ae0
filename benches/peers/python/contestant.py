"""One of Python's pools, two workers: argument 1 is which (`pool`, `futures`), argument 2 the work,

argument 3 its size, or 0. Says its name when it is ready. Then for each line of standard
input, a number of operations, it does that many and prints how many seconds they took; the start of
the interpreter and of the workers is in none of them.
"""

import array
import concurrent.futures
import multiprocessing
import multiprocessing.shared_memory
import sys
import time

WORKERS = 2
NAP = 0.003  # after which everybody sleeps


def square(x):
    return x * x


def same(x):
    return x


def read(name):
    memory = multiprocessing.shared_memory.SharedMemory(name)
    first = memory.buf[0]
    memory.close()
    return first


class Pool:
    name = "Python Pool"

    def __init__(self):
        self.pool = multiprocessing.Pool(WORKERS)

    def apply(self, function, argument):
        return self.pool.apply(function, (argument,))

    def map(self, function, items):
        return self.pool.map(function, items)

    def one_by_one(self, function, items):
        for _ in self.pool.imap_unordered(function, items):
            pass

    def submit(self, function, items):
        for task in [self.pool.apply_async(function, (x,)) for x in items]:
            task.get()

    def end(self):
        self.pool.terminate()


class Futures:
    name = "Python futures"

    def __init__(self):
        self.pool = concurrent.futures.ProcessPoolExecutor(WORKERS)

    def apply(self, function, argument):
        return self.pool.submit(function, argument).result()

    def map(self, function, items):
        # As long as those that Pool.map makes.
        return list(self.pool.map(function, items, chunksize=max(1, len(items) // (4 * WORKERS))))

    def one_by_one(self, function, items):
        tasks = [self.pool.submit(function, x) for x in items]
        for task in concurrent.futures.as_completed(tasks):
            task.result()

    def submit(self, function, items):
        for task in [self.pool.submit(function, x) for x in items]:
            task.result()

    def end(self):
        self.pool.shutdown()


def vector(length):
    try:
        import numpy

        return numpy.full(length, 0.5), "numpy"
    except ImportError:
        return array.array("d", [0.5]) * length, "array"


def timed(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def repeated(run):
    def times(count):
        for _ in range(count):
            run()

    return lambda count: timed(lambda: times(count))


def after_naps(run):
    def nap_and_run():
        time.sleep(NAP)
        return timed(run)

    return lambda count: sum(nap_and_run() for _ in range(count))


def work_of(pool, work, size):
    """What does so many operations, and what the name says beyond the pool's."""
    if work == "round_trip":
        return repeated(lambda: pool.apply(square, 12)), ""
    if work == "asleep":
        return after_naps(lambda: pool.apply(square, 12)), ""
    if work == "map":
        return lambda count: timed(lambda: pool.map(square, range(count))), ""
    if work == "one_by_one":
        return lambda count: timed(lambda: pool.one_by_one(square, range(count))), ""
    if work == "submit":
        return lambda count: timed(lambda: pool.submit(square, range(count))), ""
    if work == "bytes":
        block = b"\7" * size
        return repeated(lambda: pool.apply(same, block)), ""
    if work == "bytes_in":
        block = b"\7" * size
        return repeated(lambda: pool.apply(len, block)), ""
    if work == "vector":
        samples, kind = vector(size)
        return repeated(lambda: pool.apply(same, samples)), ", " + kind
    if work == "handle":
        return repeated(lambda: pool.apply(read, pool.memory.name)), ", SharedMemory"
    if work == "idle":
        return lambda count: 0.0, ""
    raise ValueError(work)


if __name__ == "__main__":
    work, size = sys.argv[2], int(sys.argv[3])
    memory = None
    if work == "handle":
        # Before the workers start, which otherwise have a tracker each that complains at the end.
        memory = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    pool = {"pool": Pool, "futures": Futures}[sys.argv[1]]()
    pool.memory = memory
    # The executor starts its workers at the first calls.
    pool.map(square, range(100))
    run, what = work_of(pool, work, size)
    print(pool.name + what, flush=True)
    for line in sys.stdin:
        print(run(int(line)), flush=True)
    if memory:
        memory.close()
        memory.unlink()
    pool.end()
