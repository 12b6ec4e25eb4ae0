"""Public names of the modules that the page of Python's names is about, one a line."""

import importlib
import sys

CLASSES = {
    "multiprocessing": ["Process"],
    "multiprocessing.pool": ["Pool", "ThreadPool", "AsyncResult", "IMapIterator"],
    "multiprocessing.queues": ["Queue", "JoinableQueue", "SimpleQueue"],
    "multiprocessing.connection": ["Connection", "Listener"],
    "multiprocessing.synchronize": [
        "Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition", "Event", "Barrier",
    ],
    "multiprocessing.sharedctypes": ["Synchronized", "SynchronizedArray", "SynchronizedString"],
    "multiprocessing.shared_memory": ["SharedMemory", "ShareableList"],
    "multiprocessing.managers": ["BaseManager", "SyncManager", "BaseProxy", "ValueProxy"],
    "multiprocessing.dummy": [],
    "multiprocessing.context": [],
    "concurrent.futures": ["Executor", "ProcessPoolExecutor", "ThreadPoolExecutor", "Future"],
}

if (3, 11) <= sys.version_info[:2] <= (3, 14):
    for module_name, classes in CLASSES.items():
        module = importlib.import_module(module_name)
        for name in [*getattr(module, "__all__", ()), *classes]:
            print(f"{module_name}.{name}")
        for class_name in classes:
            for name in dir(getattr(module, class_name)):
                if not name.startswith("_"):
                    print(f"{module_name}.{class_name}.{name}")
