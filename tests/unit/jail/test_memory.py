"""Huge pages for the zygote: what the process could do before, it can do after."""

import subprocess
import sys

CHECK = """
import hashlib, json, os, re
from sandbox.jail import memory
import numpy as np
before = np.arange(1000.0)
text = lambda: sum(line.split()[1] == "r-xp" for line in open("/proc/self/maps"))
count = text()
memory.use_huge_pages()
memory.use_huge_pages()
assert text() >= count
assert np.array_equal(before * 2, np.arange(0.0, 2000.0, 2)) and re.fullmatch("a+", "aaa") and hashlib.sha256(b"")
child = os.fork()
if child == 0:
    os._exit(int(before.sum()) % 251)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 499500 % 251)
"""


def test_a_process_goes_on_in_huge_pages() -> None:
    """Text and heap are moved under a running interpreter, twice, and it computes and forks as ever."""
    told = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, check=False)
    assert (told.stdout.strip(), told.returncode) == ("True", 0), told.stderr


def test_where_text_may_not_be_made_executable_it_stays() -> None:
    """A machine whose policy forbids executable memory of one's own runs as before."""
    forbid = "import ctypes, sandbox.jail.memory as m\nm._libc.mprotect = lambda *_: -1\n"
    told = subprocess.run([sys.executable, "-c", forbid + CHECK], capture_output=True, text=True, check=False)
    assert (told.stdout.strip(), told.returncode) == ("True", 0), told.stderr
