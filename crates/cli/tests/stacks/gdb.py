# Runs the program in gdb and writes how often each stack was met at the first instruction of each
# of some functions. Given by the caller: FUNCTIONS, names; OUT, where to write: lines of JSON,
# [count, [[file name, address in the file, whether it is no return address], ...]] with the
# innermost frame first, then "whole". Given nothing but addresses, gdb takes no function's prologue
# for skipped.
import json
import os
import struct
from collections import Counter


def first_load(path):
    """The address at which a file wants to begin."""
    with open(path, "rb") as file:
        header = file.read(64)
        offset, = struct.unpack_from("<Q", header, 32)
        size, number = struct.unpack_from("<HH", header, 54)
        for index in range(number):
            file.seek(offset + index * size)
            kind, _, _, address = struct.unpack_from("<IIQQ", file.read(size))
            if kind == 1:
                return address & ~0xFFF
    raise ValueError(path)


class Maps:
    """What is where in the program."""

    def __init__(self):
        self.ranges = []
        self.wanted = {}

    def read(self):
        self.ranges = []
        first = {}
        with open("/proc/%d/maps" % gdb.selected_inferior().pid) as maps:
            for line in maps:
                words = line.split(None, 5)
                if len(words) < 6:
                    continue
                path = words[5].rstrip("\n")
                start, end = (int(word, 16) for word in words[0].split("-"))
                if path == "[vdso]":
                    self.ranges.append((start, end, path, start))
                elif path.startswith("/"):
                    begin = first.setdefault(path, start)
                    if path not in self.wanted:
                        try:
                            self.wanted[path] = first_load(path)
                        except (OSError, ValueError, struct.error):
                            self.wanted[path] = None
                    if self.wanted[path] is not None:
                        bias = begin - self.wanted[path]
                        self.ranges.append((start, end, os.path.basename(path), bias))

    def place(self, pc):
        for start, end, name, bias in self.ranges:
            if start <= pc < end:
                return (name, pc - bias)
        return (None, pc)


MAPS = Maps()
STACKS = Counter()
# Frames that are not on the stack: of functions inlined into others, and of functions that are gone
# by a tail call (gdb knows of them by debug information).
NOT_ON_STACK = (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME)


class Hit(gdb.Breakpoint):
    def stop(self):
        # Each time: a library may be in another one's place.
        MAPS.read()
        stack = []
        exact = True
        frame = gdb.newest_frame()
        while frame is not None:
            if frame.type() not in NOT_ON_STACK:
                stack.append(MAPS.place(frame.pc()) + (exact,))
                exact = frame.type() == gdb.SIGTRAMP_FRAME
            reason = frame.unwind_stop_reason()
            if reason not in (gdb.FRAME_UNWIND_NO_REASON, gdb.FRAME_UNWIND_OUTERMOST):
                stack.append(("gdb: " + gdb.frame_stop_reason_string(reason), 0, False))
            frame = frame.older()
        STACKS[tuple(stack)] += 1
        return False


def settings(*lines):
    for line in lines:
        gdb.execute(line)


settings(
    "set pagination off",
    "set confirm off",
    "set debuginfod enabled off",
    "set auto-load off",
    "set language c",
    "set startup-with-shell off",
    # What a program prints may depend on these, which gdb sets.
    "unset environment LINES",
    "unset environment COLUMNS",
    "set backtrace past-main on",
    "set backtrace past-entry on",
    "set backtrace limit unlimited",
    # Signals are the program's own. (gdb's own SIGTRAP and SIGINT are not in this list.)
    "handle all nostop noprint pass",
)
gdb.execute("starti", to_string=True)
for name in FUNCTIONS:
    Hit("*%d" % int(gdb.parse_and_eval("(unsigned long)&" + name)), internal=True)
while any(thread.is_valid() for thread in gdb.selected_inferior().threads()):
    gdb.execute("continue")
with open(OUT, "w") as out:
    for stack, count in STACKS.items():
        out.write(json.dumps([count, stack]) + "\n")
    out.write('"whole"\n')
