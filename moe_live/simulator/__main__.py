"""`python -m moe_live.simulator PATH`: write a log until killed or the standard input closes."""

from moe_live.simulator.writer import main

main()
