"""How much processor time a pool of two takes in a second of nothing to do."""

import glob
import multiprocessing
import os
import time


def busy(ids):
    nanos = 0
    for process in ids:
        for path in glob.glob(f"/proc/{process}/task/*/schedstat"):
            with open(path) as stat:
                nanos += int(stat.read().split()[0])
    return nanos


if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        ids = [os.getpid()] + [child.pid for child in multiprocessing.active_children()]
        time.sleep(0.2)
        before = busy(ids)
        time.sleep(1)
        print("Python: a pool of two, and the program", (busy(ids) - before) / 1e9)
