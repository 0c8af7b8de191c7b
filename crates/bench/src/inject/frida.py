# PID: attaches by Frida to all functions traced_N of the process, and detaches, a line of standard
# input each. Says "ready" when everything is loaded that is needed for it.
import sys

try:
    import frida
except ImportError:
    print("absent", flush=True)
    sys.exit(0)

SCRIPT = """
let hits = 0;
const wanted = /^traced_[0-9]+$/;
for (const symbol of Process.enumerateModules()[0].enumerateSymbols())
    if (wanted.test(symbol.name))
        Interceptor.attach(symbol.address, { onEnter() { if (hits++ === 0) send('hit'); } });
Interceptor.flush();
"""

pid = int(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
session = frida.attach(pid)
script = session.create_script(SCRIPT)
script.on("message", lambda message, data: print(message.get("payload", message), flush=True))
script.load()
sys.stdin.readline()
script.unload()
session.detach()
print("detached", flush=True)
sys.stdin.readline()
