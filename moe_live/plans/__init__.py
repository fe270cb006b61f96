"""What to do with the figures: plans, each of which says what it would have gained, one module a plan.

A plan is made from a snapshot. What it learns it learns on one half of the latest decode steps, and what it
gains is tested on the other half.
"""
