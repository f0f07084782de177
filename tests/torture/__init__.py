"""Damage, kills and hostile files, in numbers: `python -m torture` prints what was noticed, survived and lost.

Needs Linux, and a C compiler for failing system calls. Everything runs on the tests' tiny model, in forked processes.
"""
