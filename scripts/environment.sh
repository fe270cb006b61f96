# Makes the virtual environment .venv beside pyproject.toml. Sourced by the other scripts, after `set -euo pipefail`.

# No Python that is started from here imports anything from where the user stands, nor from where variables point
# that are meant for other programs.
export PYTHONSAFEPATH=1
unset PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONINSPECT

root=$(dirname -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")")
venv=$root/.venv

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

# The real path of the first Python that is new enough and can make environments. The real path names the
# minor version, so a system upgrade leaves a dangling link that is noticed, not an environment of two versions.
find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        # -I, because those that are too old know nothing of PYTHONSAFEPATH.
        "$candidate" -I -c 'import os, sys
if sys.version_info < (3, 11):
    sys.exit(1)
import ensurepip, venv
print(os.path.realpath(sys.executable))' 2>/dev/null && return
    done
    fail 'no Python 3.11 or later that can make environments: install one (on Debian: apt install python3-venv)'
}

# What the environment was made for: it is good for as long as this stays the same.
wanted_stamp() {
    printf '%s\n' "$root"
    cat -- "$root/pyproject.toml"
}

is_ready() { # KIND
    [[ -x $venv/bin/python && -f $venv/$1.stamp && $(<"$venv/$1.stamp") == "$(wanted_stamp)" ]]
}

pip_install() {
    PIP_USER=0 "$venv/bin/python" -m pip --quiet --disable-pip-version-check install "$@"
}

fill() { # KIND
    rm -f -- "$venv/$1.stamp"
    case $1 in
    run) pip_install --editable "$root" ;;
    *) pip_install --upgrade 'pip>=25.1' && (cd -- "$root" && pip_install --group "$1") ;;
    esac || fail 'the packages cannot be installed: see the messages above'
    wanted_stamp >"$venv/$1.stamp"
}

# Makes sure that the environment has what KIND needs: "run" (the program), "dev" (the checks as well) or "bench"
# (the tools it is measured beside).
# One process at a time: the lock is on the project's directory and ends with this shell, however that dies.
make_environment() { # KIND
    if is_ready run && is_ready "$1"; then
        return
    fi
    {
        local python
        python=$(find_python)
        exec 9<"$root"
        "$python" -c 'import fcntl
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("waiting for another set-up of the same directory", flush=True)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks'
        if ! is_ready run; then
            printf 'setting up %s\n' "$venv"
            # One that was complete once is brought up to date; a half-made or moved one is made anew.
            if ! [[ -x $venv/bin/python && -f $venv/run.stamp && $(head -n 1 "$venv/run.stamp") == "$root" ]]; then
                "$python" -m venv --clear "$venv" || fail "$venv cannot be made: see the messages above"
            fi
            fill run
        fi
        if ! is_ready "$1"; then
            printf 'installing what %s needs\n' "${0##*/}"
            fill "$1"
        fi
        exec 9<&-
    } >&2
}
