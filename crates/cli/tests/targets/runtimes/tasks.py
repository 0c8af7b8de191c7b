"""Greenlets, whose frames of C are copied away and back, and gevent's on top of them."""
import sys
import greenlet


def tree(depth):
    """Each level yields through its own greenlet, from inside a sort's callback."""
    if depth == 0:
        return 1
    def body():
        values = sorted(range(5), key=lambda n: (main.switch(n), -n)[1])
        return sum(values) + tree(depth - 1)
    main = greenlet.getcurrent()
    task = greenlet.greenlet(body)
    total, value = 0, task.switch()
    while not task.dead:
        total += value
        value = task.switch()
    return total + value


def many(tasks, rounds):
    main = greenlet.getcurrent()
    log = []
    def body(me):
        for n in range(rounds):
            # In the middle of C code of the interpreter's.
            log.extend(map(lambda x: (main.switch(), x)[1], [me * n]))
    all_tasks = [greenlet.greenlet(body) for _ in range(tasks)]
    for me, task in enumerate(all_tasks):
        task.switch(me)
    while any(not task.dead for task in all_tasks):
        for task in all_tasks:
            if not task.dead:
                task.switch()
    return sum(log) % 1000003


print("tree", tree(12))
print("many", many(50, 30))
try:
    import gevent
    import gevent.event
except ImportError:
    gevent = None
if gevent:
    def worker(n):
        total = 0
        for i in range(20):
            gevent.sleep(0)
            total += i * n
        return total
    jobs = [gevent.spawn(worker, n) for n in range(100)]
    gevent.joinall(jobs)
    print("gevent", sum(job.value for job in jobs))
sys.stdout.flush()
