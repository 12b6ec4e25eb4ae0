"""One small message there and back over a pipe: argument 1 is how many a round has."""

import multiprocessing
import statistics
import sys
import time


def echo(end):
    try:
        while True:
            end.send(end.recv())
    except EOFError:
        pass


if __name__ == "__main__":
    calls = int(sys.argv[1])
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=echo, args=(there,), daemon=True)
    process.start()
    there.close()
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            here.send(12)
            here.recv()
        rounds.append((time.perf_counter() - start) / calls)
    print("Python: here.send(12); here.recv()", statistics.median(rounds))
    here.close()
    process.terminate()
