"""Tests of the sources. Their names carry the number of the case of following that they test.

- f01 missing at start, f03 identity, f04 renamed, f09 deleted, f10 directory made again, f11 symbolic
  link re-pointed: test_follow_names; f10 also test_watch
- f02 race between open and watch: test_watch
- f05 truncated, f06 truncated and rewritten, f07 same size and newer time, f08 hole at the start:
  test_follow_rewriting
- f12 to f16 partial line, CRLF, line breaks, any byte, long line: test_follow_rewriting, as far as the
  bytes arrive as they are; the rest is parsing
- f17 a directory, f18 permission denied: test_follow_reading, test_archive, test_pipe
- f19 standard input, FIFO, `< log`: test_pipe, test_archive
- f20 gzip: test_archive, test_pipe; refused for following: test_follow_reading
- f21 no events come: test_watch, and all of test_follow_* runs without a watcher, too
- f22 read errors: test_follow_reading, test_archive
- f23 bounded reads: test_follow_reading, test_archive, test_pipe
- f24 idle: test_follow_reading, test_watch
- f25 start at the end, f27 clock: test_follow_reading
- f26 any sequence of events: test_follow_laws
"""
