# Calls int("...") from several depths. A Python function that calls another one stays in one C
# frame; what goes through C code does not.
import ctypes, functools

def leaf(n):
    return int(str(n))

def deep(n):
    return leaf(n) if n == 0 else deep(n - 1) + 1

class Item:
    def __init__(self, n):
        self.n = n
    def __lt__(self, other):
        return leaf(self.n * 7 % 11) < other.n * 7 % 11
    def __getattr__(self, name):
        return leaf(len(name))
    def __call__(self, n):
        return deep(n)

def numbers():
    for n in range(3):
        yield deep(n)

libc = ctypes.CDLL("libc.so.6")
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))

def compare(a, b):
    return leaf(a[0]) - leaf(b[0])

for depth in range(6):
    deep(depth)
    list(map(deep, range(3)))
    sum(numbers())
    sorted(Item(n) for n in range(9))
    functools.reduce(lambda a, b: deep(2) + a + b, range(4))
    Item(1).missing
    Item(2)(depth)
    [deep(n) for n in range(3)]
    values = (ctypes.c_int * 7)(5, 1, 4, 6, 3, 2, 7)
    libc.qsort(values, 7, 4, COMPARE(compare))
    eval("deep(1)")
    try:
        leaf("not a number")
    except ValueError:
        leaf(3)
