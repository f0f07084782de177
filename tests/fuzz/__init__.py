"""Coverage-guided fuzzing of the files that lookforward reads: `python -m fuzz`, or `make fuzz`.

Each module with READERS is a group of readers. The first byte of an input names one of them, as a letter from a; the
rest is what it reads, as bytes of the file or as JSON from which the file is made. Right is a value or a
LookforwardError; anything else is a finding. `corpus/GROUP` has what the fuzzer begins with, and what it once found:
`read-NAME` is read, `refused-NAME` is refused with a message. The tests read all of it, without the fuzzer.
"""
