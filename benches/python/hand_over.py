"""A number to another process and back over two queues: argument 1 is how often a round has it."""

import multiprocessing
import statistics
import sys
import time


def answer(there, back):
    while True:
        x = there.get()
        back.put(x)
        if x is None:
            return


if __name__ == "__main__":
    times = int(sys.argv[1])
    for kind in ("SimpleQueue", "Queue"):
        there, back = getattr(multiprocessing, kind)(), getattr(multiprocessing, kind)()
        child = multiprocessing.Process(target=answer, args=(there, back))
        child.start()
        seconds = []
        for _ in range(6):
            start = time.perf_counter()
            for x in range(times):
                there.put(x)
                back.get()
            seconds.append((time.perf_counter() - start) / times)
        there.put(None)
        back.get()
        child.join()
        print(f"Python: two of multiprocessing.{kind}", statistics.median(seconds[1:]))
