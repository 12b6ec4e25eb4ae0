import sys
import time
from multiprocessing import Pipe, Process
from statistics import median


def echo(end):
    try:
        while True:
            end.send(end.recv())
    except EOFError:
        pass


if __name__ == "__main__":
    calls = int(sys.argv[1])
    here, there = Pipe()
    process = Process(target=echo, args=(there,), daemon=True)
    process.start()
    there.close()
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(calls):
            here.send(12)
            here.recv()
        rounds.append((time.perf_counter() - start) / calls)
    print("Python multiprocessing.Pipe", median(rounds))
    here.close()
    process.terminate()
