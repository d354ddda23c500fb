"""What runs on a mount: short programs for the distribution's Python, each a process of its own.

They take a folder and numbers as arguments, and print one JSON object of figures: seconds, counts or rates.
"""

from typing import Final

TIMED: Final = """
import json, subprocess, sys, time
began = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
if code:
    sys.exit(code)  # it has said why
print(json.dumps({"seconds": time.perf_counter() - began}))
"""

WALK: Final = """
import json, os, sys, time
def walk():
    began, count = time.perf_counter(), 0
    for top, folders, files in os.walk(sys.argv[1]):
        for name in files:
            os.lstat(os.path.join(top, name))
            count += 1
    return count / (time.perf_counter() - began), count
cold, count = walk()
again, same = walk()
assert count == same == int(sys.argv[2]), (count, same)
print(json.dumps({"cold": cold, "again": again}))
"""

READ_SMALL: Final = """
import json, os, sys, time
folder, count, size, most_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
began, done = time.perf_counter(), 0
while done < count and time.perf_counter() - began < most_s:
    descriptor = os.open(f"{folder}/{done:05}", os.O_RDONLY)
    got = os.read(descriptor, size + 1)
    os.close(descriptor)
    assert len(got) == size, (done, len(got))
    done += 1
print(json.dumps({"files": done / (time.perf_counter() - began)}))
"""

CREATE: Final = """
import json, os, sys, time
folder, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.mkdir(folder)
began = time.perf_counter()
for number in range(count):
    with open(f"{folder}/{number:05}", "wb", buffering=0) as file:
        assert file.write(bytes(size)) == size
created = count / (time.perf_counter() - began)
began = time.perf_counter()
for number in range(count):
    os.unlink(f"{folder}/{number:05}")
deleted = count / (time.perf_counter() - began)
os.rmdir(folder)
print(json.dumps({"created": created, "deleted": deleted}))
"""

RANDOM: Final = """
import json, os, random, sys, threading, time
path, size, count, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
descriptor = os.open(path, os.O_RDONLY)
places = random.Random(7).sample(range(size // 4096), count)
def read(mine):
    for place in mine:
        assert len(os.pread(descriptor, 4096, place * 4096)) == 4096
workers = [threading.Thread(target=read, args=(places[number::threads],)) for number in range(threads)]
began = time.perf_counter()
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(json.dumps({"reads": count / (time.perf_counter() - began)}))
"""

LIST: Final = """
import json, os, sys, time
began = time.perf_counter()
with os.scandir(sys.argv[1]) as entries:
    next(entries)
first = time.perf_counter() - began
began, count = time.perf_counter(), 0
for entry in os.scandir(sys.argv[1]):
    entry.stat(follow_symlinks=False)
    count += 1
assert count == int(sys.argv[2]), count
print(json.dumps({"first": first, "seconds": time.perf_counter() - began}))
"""

# Folders that nobody has listed before, one after the other, while nothing else happens and during a copy.
FAIR: Final = """
import json, os, statistics, subprocess, sys, time
folder, large, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
def ls(numbers):
    times = []
    for number in numbers:
        began = time.perf_counter()
        assert len(os.listdir(f"{folder}/{number:03}")) == 20
        times.append(time.perf_counter() - began)
        time.sleep(0.02)
    return statistics.quantiles(times, n=20)[-1]
# In no order, so that none is listed ahead.
order = sorted(range(2 * count), key=lambda number: number * 7919 % 10007)
idle = ls(order[:count])
copy = subprocess.Popen(["dd", f"if={large}", "of=/dev/null", "bs=1M"], stderr=subprocess.DEVNULL)
time.sleep(0.3)
busy = ls(order[count:])
copy.terminate()
copy.wait()
print(json.dumps({"idle": idle, "busy": busy}))
"""
