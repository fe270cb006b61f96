"""What a shell does for one job, for tests: `python -m tests.dashboard.shell TTY COMMAND...`.

Leads the session whose terminal is TTY, starts the command as a job of its own and obeys commands on stdin:
`foreground`, `background` (whose group the terminal obeys), `kill SIGNAL`. Reports on stdout: `started`,
`stopped`, `exited STATUS` (minus the signal that killed it).
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading


def say(event: str) -> None:
    sys.stdout.write(event + "\n")
    sys.stdout.flush()


def report(job: int) -> None:
    while True:
        _, status = os.waitpid(job, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            say("stopped")
        else:
            say(f"exited {os.waitstatus_to_exitcode(status)}")
            return


def main() -> None:
    tty = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(tty, termios.TIOCSCTTY, 0)
    ignored = os.environ.pop("IGNORE_SIGINT", "")
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    stdin = subprocess.DEVNULL if os.environ.pop("NO_STDIN", "") else tty
    job = subprocess.Popen(sys.argv[2:], stdin=stdin, stdout=tty, stderr=tty, process_group=0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTTOU, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    if not os.environ.get("BACKGROUND"):
        os.tcsetpgrp(tty, job.pid)
    say("started")
    threading.Thread(target=report, args=(job.pid,), daemon=True).start()
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "foreground":
            os.tcsetpgrp(tty, job.pid)
        elif command == "background":
            os.tcsetpgrp(tty, os.getpgrp())
        elif command == "kill":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, int(argument))


if __name__ == "__main__":
    main()
