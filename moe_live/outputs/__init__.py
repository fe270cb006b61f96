"""Where figures go beside the terminal: a page, a server. One file an output, one line in `table.OUTPUTS`.

What is imported here and on top of each output's module is what `--help` needs; all else is imported when
there is something to do.
"""
