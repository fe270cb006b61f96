"""`python -m moe_live`: the command `moe-live` by another name."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # `-m` looks for everything in the current directory first, and what lies there is not ours to run.
        del sys.path[0]

    from pathlib import Path

    root = str(Path(__file__).parents[1])
    if root not in sys.path:  # not installed
        sys.path.append(root)

    from moe_live.process import entry_point

    entry_point()
