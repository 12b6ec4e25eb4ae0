"""Start and join a process, by Python's multiprocessing: argument 1 is how often."""

import multiprocessing
import statistics
import sys
import time


def nothing():
    pass


if __name__ == "__main__":
    rounds = int(sys.argv[1])
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            process = context.Process(target=nothing)
            process.start()
            process.join()
            seconds.append(time.perf_counter() - start)
        print(f"Python: Process, start method {method}", statistics.median(seconds))
