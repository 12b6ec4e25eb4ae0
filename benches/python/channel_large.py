"""Blocks of bytes through a queue: argument 1 is how long, 2 how many, 3 how many at a time."""

import multiprocessing
import statistics
import sys
import time


def produce(queue, barrier, length, count):
    block = bytes(length)
    barrier.wait()
    for _ in range(count):
        queue.put(block)


def consume(queue, barrier, count, took):
    barrier.wait()
    start = time.perf_counter()
    for _ in range(count):
        queue.get()
    took.put((time.perf_counter() - start) / count)


if __name__ == "__main__":
    length, count, capacity = (int(argument) for argument in sys.argv[1:])
    took = multiprocessing.SimpleQueue()
    seconds = []
    for _ in range(4):
        queue = multiprocessing.Queue(capacity)
        barrier = multiprocessing.Barrier(2)
        children = [
            multiprocessing.Process(target=produce, args=(queue, barrier, length, count)),
            multiprocessing.Process(target=consume, args=(queue, barrier, count, took)),
        ]
        for child in children:
            child.start()
        seconds.append(took.get())
        for child in children:
            child.join()
    print("Python: multiprocessing.Queue, bytes", statistics.median(seconds[1:]))
