"""From the kill of a worker to the error of its task. `multiprocessing.Pool` never tells."""

import concurrent.futures
import os
import signal
import statistics
import time


def wait_for_ever():
    while True:
        time.sleep(1)


if __name__ == "__main__":
    seconds = []
    for _ in range(5):
        pool = concurrent.futures.ProcessPoolExecutor(1)
        task = pool.submit(wait_for_ever)
        while not pool._processes or not task.running():
            time.sleep(0.01)
        time.sleep(0.05)
        start = time.perf_counter()
        os.kill(next(iter(pool._processes)), signal.SIGKILL)
        try:
            task.result()
        except concurrent.futures.process.BrokenProcessPool:
            seconds.append(time.perf_counter() - start)
        pool.shutdown()
    print("Python: ProcessPoolExecutor, which is broken then", statistics.median(seconds))
