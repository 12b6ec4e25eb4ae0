"""Numbers through a queue: argument 1 is how many, 2 how many producers and consumers each,

3 how many there may be in it at a time (0: any number).
"""

import multiprocessing
import statistics
import sys
import time


def produce(queue, barrier, count):
    barrier.wait()
    for x in range(count):
        queue.put(x)


def consume(queue, barrier, count, ends):
    barrier.wait()
    start = time.perf_counter()
    for _ in range(count):
        queue.get()
    ends.put((start, time.perf_counter()))


if __name__ == "__main__":
    items, sides, capacity = (int(argument) for argument in sys.argv[1:])
    count = items // sides
    ends = multiprocessing.SimpleQueue()
    seconds = []
    for _ in range(6):
        queue = multiprocessing.Queue(capacity)
        barrier = multiprocessing.Barrier(2 * sides)
        children = []
        for _ in range(sides):
            children.append(multiprocessing.Process(target=produce, args=(queue, barrier, count)))
            children.append(
                multiprocessing.Process(target=consume, args=(queue, barrier, count, ends))
            )
        for child in children:
            child.start()
        spans = [ends.get() for _ in range(sides)]
        for child in children:
            child.join()
        span = max(end for _, end in spans) - min(start for start, _ in spans)
        seconds.append(span / (count * sides))
    print("Python: multiprocessing.Queue, processes", statistics.median(seconds[1:]))
